"""The `pilvi` command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pilvi
from pilvi.core.config import Config, default_data_dir
from pilvi.core.errors import PilviError


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except PilviError as error:
        print(f"pilvi: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="pilvi", description="A machine-learning cloud that people own.")
    root.add_argument("--version", action="version", version=f"pilvi {pilvi.__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the cloud on one port and serve until Ctrl-C")
    up.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)")
    up.add_argument("--port", type=int, default=4566, help="port for all services (default 4566; 0 takes a free one)")
    add_data_dir(up)
    up.add_argument("--workers", type=positive, default=1, help="server processes (default 1; more serve reads in parallel)")
    up.add_argument(
        "--auth",
        choices=("strict", "open"),
        default="strict",
        help="open: unknown access keys act as root, and POST /_pilvi/reset empties everything; for drop-in tests",
    )
    up.add_argument("--account", type=account, default="123456789012", help="account made at the first start")
    up.add_argument("--region", default="us-east-1", help="Region for callers that name none")
    up.add_argument(
        "--at-rest",
        choices=("encrypted", "disk"),
        default="encrypted",
        help="disk: store objects as they are, because the disk is encrypted already",
    )
    up.add_argument("--runtimes-dir", type=Path, default=Config.runtimes_dir_default(), help="where runtimes are installed")
    up.add_argument(
        "--isolation",
        choices=("auto", "bwrap", "unshare", "none"),
        default="auto",
        help="how users' programs are kept apart (default: the strongest way that works here)",
    )
    up.add_argument(
        "--compute",
        default="local",
        help="where jobs run: local (default), podman (as local, own images by podman), ray[:ADDRESS], kubernetes[:NAMESPACE], slurm[:PARTITION]",
    )
    add_stores(up)
    up.add_argument(
        "--events",
        default=os.environ.get("PILVI_EVENTS", ""),
        metavar="URL",
        help="let facts wait in NATS JetStream (nats://[USER:PASSWORD@]HOST:PORT[,...][?replicas=3]) on their way between services",
    )
    up.add_argument(
        "--dead-letter-days",
        type=positive,
        default=14,
        metavar="DAYS",
        help="how long what could not be delivered between services is kept (default 14); pilvi events shows it",
    )
    up.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="warning")
    up.set_defaults(run=run_up)

    env = commands.add_parser("env", help="print shell exports that point AWS clients to the running cloud")
    add_data_dir(env)
    env.add_argument(
        "--proxy",
        action="store_true",
        help="let clients keep AWS's own host names and come here by HTTPS_PROXY, for those that ignore endpoints",
    )
    env.set_defaults(run=run_env)

    status = commands.add_parser("status", help="say whether the cloud runs, and where")
    add_data_dir(status)
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=run_status)

    add_clock(commands)
    add_events(commands)

    scrub = commands.add_parser(
        "scrub", help="read everything that is kept, mend what is damaged from mirrors, and say what was found"
    )
    scrub.add_argument("--json", action="store_true")
    add_data_dir(scrub)
    scrub.set_defaults(run=run_scrub)

    coverage = commands.add_parser("coverage", help="list every operation as executes, records or absent")
    coverage.add_argument("service", nargs="*", help="services to list (default: a summary of all, then the built ones)")
    coverage.add_argument("--json", action="store_true", help="everything, for programs")
    coverage.set_defaults(run=run_coverage)

    spot = commands.add_parser("spot", help="interrupt managed spot training, as AWS does when it wants its instances back")
    spot_actions = spot.add_subparsers(required=True, metavar="ACTION")
    interrupt = spot_actions.add_parser("interrupt", help="SIGTERM, 120 seconds, then the job starts again from its checkpoints")
    interrupt.add_argument("name", help="the training job")
    interrupt.add_argument("--region", help="the job's Region (default: the server's)")
    add_data_dir(interrupt)
    interrupt.set_defaults(run=run_spot_interrupt)

    bill = commands.add_parser("bill", help="what this month would have cost on AWS, and what runs right now")
    bill.add_argument("--month", help="another one: 2026-11 (default: the running month)")
    bill.add_argument("--json", action="store_true", help="everything, for programs: sources of prices, amounts to ten decimals")
    add_data_dir(bill)
    bill.set_defaults(run=run_bill)

    add_mail(commands)

    runtimes = commands.add_parser("runtimes", help="list, install and remove the environments that jobs run in")
    actions = runtimes.add_subparsers(required=True, metavar="ACTION")
    for action, run in (("list", run_runtimes_list), ("install", run_runtimes_install), ("remove", run_runtimes_remove)):
        sub = actions.add_parser(action)
        sub.add_argument("--runtimes-dir", type=Path, default=Config.runtimes_dir_default())
        if action != "list":
            sub.add_argument("name", nargs="+")
        sub.set_defaults(run=run)
    prune = actions.add_parser("prune", help="remove what newer requirements have replaced and no program runs in")
    prune.add_argument("--runtimes-dir", type=Path, default=Config.runtimes_dir_default())
    prune.set_defaults(run=run_runtimes_prune)
    add_images(commands)
    return root


def add_stores(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--mirror",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="keep everything in this directory too, at best on another disk; may be repeated",
    )
    up.add_argument(
        "--records",
        default=os.environ.get("PILVI_RECORDS", ""),
        metavar="URL",
        help="keep metadata in PostgreSQL (postgresql://...), so that several servers may share it",
    )
    up.add_argument(
        "--blobs",
        default=os.environ.get("PILVI_BLOBS", ""),
        metavar="PLACE",
        help="keep objects in a shared folder, or in an S3-compatible store (s3://BUCKET/PREFIX; PILVI_BLOBS_ACCESS_KEY_ID ...)",
    )
    up.add_argument(
        "--blobs-endpoint", default=os.environ.get("PILVI_BLOBS_ENDPOINT", ""), metavar="URL", help="that store's endpoint"
    )
    up.add_argument(
        "--root-key",
        default=os.environ.get("PILVI_ROOT_KEY", ""),
        metavar="FILE",
        help="file of the master keys (default: in the data directory); servers that share a store share it",
    )


def add_images(commands: Any) -> None:
    images = commands.add_parser("images", help="build, push, import, save and list container images, without Docker")
    actions = images.add_subparsers(required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build a folder's Dockerfile")
    build.add_argument("folder", type=Path)
    build.add_argument("-t", "--tag", action="append", default=[], help="REPOSITORY:TAG to push it to; may be repeated")
    build.add_argument("-f", "--file", type=Path, help="the Dockerfile (default: FOLDER/Dockerfile)")
    build.add_argument("-o", "--output", type=Path, help="write an OCI archive instead of pushing")
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    build.add_argument("--target", default="", help="stop at this stage")
    build.set_defaults(run=run_images_build)
    for action, run in (("push", run_images_push), ("import", run_images_push)):
        sub = actions.add_parser(action, help="bring the image in a file (docker save, OCI archive) to the registry")
        sub.add_argument("file", type=Path)
        sub.add_argument("reference", metavar="REPOSITORY:TAG")
        sub.set_defaults(run=run)
    save = actions.add_parser("save", help="write an image of the registry to a file (OCI archive)")
    save.add_argument("reference", metavar="REPOSITORY:TAG")
    save.add_argument("file", type=Path)
    save.set_defaults(run=run_images_save)
    listed = actions.add_parser("list", help="list the images of the registry")
    listed.set_defaults(run=run_images_list)
    for sub in actions.choices.values():
        add_data_dir(sub)


def add_mail(commands: Any) -> None:
    mail = commands.add_parser("mail", help="list and show e-mails, text messages and pushes that the cloud would have sent")
    mail.add_argument("--limit", type=positive, default=20, help="how many to list (default 20)")
    mail.add_argument("--json", action="store_true")
    add_data_dir(mail)
    mail.set_defaults(run=run_mail)
    actions = mail.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="one of them with its text")
    show.add_argument("id", help="its id, the end of it, or 'last'")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    show.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS)
    show.set_defaults(run=run_mail_show)
    stop = actions.add_parser("stop", help="as if a phone had answered STOP: it gets no more text messages")
    stop.add_argument("number", help="+15550100")
    stop.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS)
    stop.set_defaults(run=run_mail_stop)


def add_clock(commands: Any) -> None:
    clock = commands.add_parser("clock", help="the cloud's own time; 'clock advance 31d' moves it and runs what becomes due")
    clock.add_argument("--json", action="store_true")
    add_data_dir(clock)
    clock.set_defaults(run=run_clock)
    advance = clock.add_subparsers(metavar="ACTION").add_parser("advance", help="move it forward: by 31d, 12h, 1d12h, or to a date")
    advance.add_argument("by", help="90s, 15m, 6h, 31d, 2w, 1d12h, or a date: 2027-01-01, 2027-01-01T08:00:00Z")
    advance.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    advance.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS)
    advance.set_defaults(run=run_clock_advance)


def add_events(commands: Any) -> None:
    events = commands.add_parser("events", help="what waits to be delivered between services, and what could not be (dead letters)")
    events.add_argument("--json", action="store_true")
    add_data_dir(events)
    events.set_defaults(run=run_events)
    actions = events.add_subparsers(metavar="ACTION")
    dead = actions.add_parser("list", help="dead letters: id, when, consumer, lane, key, why")
    dead.add_argument("--limit", type=positive, default=100)
    dead.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    dead.set_defaults(run=run_events_list)
    show = actions.add_parser("show", help="dead letters with everything they tell")
    show.add_argument("id", nargs="+")
    show.set_defaults(run=run_events_show)
    revive = actions.add_parser("revive", help="have dead letters delivered after all, as if they were new")
    delete = actions.add_parser("delete", help="delete dead letters")
    for action, name in ((revive, "revive"), (delete, "delete")):
        action.add_argument("id", nargs="*")
        action.add_argument("--all", action="store_true", help="all of them, or all of --consumer and --lane")
        action.set_defaults(run=run_events_change, action=name)
    for action in (dead, revive, delete):
        action.add_argument("--consumer", default="", help="whose: s3/notifications, for example")
        action.add_argument("--lane", default="", help="what for: a bucket, a subscription, a target")
    for action in actions.choices.values():
        action.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS)


def add_data_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-dir", type=Path, default=default_data_dir(), help="everything the cloud keeps (default %(default)s)"
    )


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def account(text: str) -> str:
    if len(text) != 12 or not text.isdigit():
        raise argparse.ArgumentTypeError("an account id has 12 digits")
    return text


def run_up(arguments: argparse.Namespace) -> int:
    from pilvi.app.server import Server, run

    logging.basicConfig(level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = Config(
        data_dir=arguments.data_dir.absolute(),
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        auth=arguments.auth,
        account=arguments.account,
        region=arguments.region,
        runtimes_dir=arguments.runtimes_dir.absolute(),
        at_rest=arguments.at_rest,
        isolation=arguments.isolation,
        compute=arguments.compute,
        records=arguments.records,
        blobs=arguments.blobs,
        blobs_endpoint=arguments.blobs_endpoint,
        root_key=os.path.abspath(arguments.root_key) if arguments.root_key else "",
        events=arguments.events,
        dead_letter_days=arguments.dead_letter_days,
        mirrors=os.pathsep.join(str(folder.absolute()) for folder in arguments.mirror),
    )

    def announce(server: Server) -> None:
        hint = f'eval "$(pilvi env --data-dir {config.data_dir})"'
        print(f"ready  endpoint {server.endpoint}  data {config.data_dir}  keys: {hint}", flush=True)

    run(config, announce)
    return 0


def run_env(arguments: argparse.Namespace) -> int:
    from pilvi.cli.env import exports

    print("\n".join(exports(arguments.data_dir.absolute(), proxy=arguments.proxy)))
    return 0


def run_status(arguments: argparse.Namespace) -> int:
    from pilvi.cli.status import report

    return report(arguments.data_dir.absolute(), as_json=arguments.json)


def run_clock(arguments: argparse.Namespace) -> int:
    from pilvi.cli.clock import show

    print(show(arguments.data_dir.absolute(), as_json=arguments.json))
    return 0


def run_clock_advance(arguments: argparse.Namespace) -> int:
    from pilvi.cli.clock import advance

    print(advance(arguments.data_dir.absolute(), arguments.by, as_json=arguments.json))
    return 0


def run_events(arguments: argparse.Namespace) -> int:
    from pilvi.cli.events import status

    print(status(arguments.data_dir.absolute(), as_json=arguments.json))
    return 0


def run_events_list(arguments: argparse.Namespace) -> int:
    from pilvi.cli.events import listed

    found = listed(arguments.data_dir.absolute(), arguments.consumer, arguments.lane, arguments.limit, as_json=arguments.json)
    print(found)
    return 0


def run_events_show(arguments: argparse.Namespace) -> int:
    from pilvi.cli.events import shown

    print(shown(arguments.data_dir.absolute(), arguments.id))
    return 0


def run_events_change(arguments: argparse.Namespace) -> int:
    from pilvi.cli.events import changed

    data_dir = arguments.data_dir.absolute()
    print(changed(data_dir, arguments.action, arguments.id, arguments.consumer, arguments.lane, everything=arguments.all))
    return 0


def run_scrub(arguments: argparse.Namespace) -> int:
    from pilvi.cli.scrub import scrub

    return scrub(arguments.data_dir.absolute(), as_json=arguments.json)


def run_spot_interrupt(arguments: argparse.Namespace) -> int:
    from pilvi.cli.spot import interrupt

    print(interrupt(arguments.data_dir.absolute(), arguments.name, arguments.region))
    return 0


def run_bill(arguments: argparse.Namespace) -> int:
    from pilvi.cli.bill import report

    print(report(arguments.data_dir.absolute(), arguments.month, as_json=arguments.json))
    return 0


def run_mail(arguments: argparse.Namespace) -> int:
    from pilvi.cli.mail import listed

    print(listed(arguments.data_dir.absolute(), arguments.limit, as_json=arguments.json))
    return 0


def run_mail_show(arguments: argparse.Namespace) -> int:
    from pilvi.cli.mail import shown

    print(shown(arguments.data_dir.absolute(), arguments.id, as_json=arguments.json))
    return 0


def run_mail_stop(arguments: argparse.Namespace) -> int:
    from pilvi.cli.mail import stopped

    print(stopped(arguments.data_dir.absolute(), arguments.number))
    return 0


def run_coverage(arguments: argparse.Namespace) -> int:
    from pilvi.cli.coverage import report

    return report(arguments.service, as_json=arguments.json)


def run_runtimes_list(arguments: argparse.Namespace) -> int:
    from pilvi.cli.runtimes import show

    return show(arguments.runtimes_dir.absolute())


def run_runtimes_install(arguments: argparse.Namespace) -> int:
    from pilvi.cli.runtimes import install

    return install(arguments.runtimes_dir.absolute(), arguments.name)


def run_runtimes_prune(arguments: argparse.Namespace) -> int:
    from pilvi.cli.runtimes import prune

    return prune(arguments.runtimes_dir.absolute())


def run_runtimes_remove(arguments: argparse.Namespace) -> int:
    from pilvi.cli.runtimes import remove

    return remove(arguments.runtimes_dir.absolute(), arguments.name)


def run_images_build(arguments: argparse.Namespace) -> int:
    from pilvi.cli import images

    given = dict(entry.partition("=")[::2] for entry in arguments.build_arg)
    return images.build(
        lambda: images.find_target(arguments.data_dir.absolute()),
        arguments.folder,
        arguments.tag,
        file=arguments.file,
        arguments={name: value or os.environ.get(name, "") for name, value in given.items()},
        stage=arguments.target,
        output=arguments.output,
    )


def run_images_push(arguments: argparse.Namespace) -> int:
    from pilvi.cli import images

    return images.push(images.find_target(arguments.data_dir.absolute()), arguments.file, arguments.reference)


def run_images_save(arguments: argparse.Namespace) -> int:
    from pilvi.cli import images

    return images.save(images.find_target(arguments.data_dir.absolute()), arguments.reference, arguments.file)


def run_images_list(arguments: argparse.Namespace) -> int:
    from pilvi.cli import images

    return images.show(images.find_target(arguments.data_dir.absolute()))


if __name__ == "__main__":
    sys.exit(main())
