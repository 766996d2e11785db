"""Identities by themselves: no server, memory records, a clock that stands still."""

from __future__ import annotations

import json
import sqlite3

import pytest

from pilvi.core.errors import AlreadyExists, Denied, ServiceError
from pilvi.core.ids import Ids
from pilvi.core.principal import Principal
from pilvi.services.iam.identities import Identities
from pilvi.services.iam.key_id import access_key_id, account_of_key
from pilvi.services.iam.tables import ACCESS_KEYS, table
from pilvi.storage.records import Insert, Put
from pilvi.storage.records.memory import MemoryRecords
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.storage.sealed import Keyring
from pilvi.testing.virtual_clock import VirtualClock

ACCOUNT = "111122223333"
LAMBDA = Principal("service", ACCOUNT, "", "lambda.amazonaws.com", "lambda.amazonaws.com")


@pytest.fixture
def store():
    return MemoryRecords()


@pytest.fixture
def keyring(tmp_path):
    return Keyring(tmp_path / "keys" / "master.key")


@pytest.fixture
def identities(store, keyring):
    return Identities(store, keyring, VirtualClock(), Ids())


def role_row(name, path="/", service="lambda.amazonaws.com", **more):
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole", **more}
    return {
        "RoleName": name,
        "RoleId": f"AROA{name.upper():A<16}",
        "Path": path,
        "Arn": f"arn:aws:iam::{ACCOUNT}:role{path}{name}",
        "AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        "MaxSessionDuration": 3600,
        "Tags": [],
        "_attached": [],
        "_inline": {},
        "_boundary": None,
    }


def put_role(store, name="worker", **more):
    row = role_row(name, **more)
    store.write(Put(table(ACCOUNT, "Role"), name.lower(), row))
    return row["Arn"]


def test_create_account_makes_a_root_key_once(identities):
    made = identities.create_account(ACCOUNT)
    assert identities.find(made.access_key_id) == made
    assert identities.root_key(ACCOUNT) == made
    assert made.principal.arn == f"arn:aws:iam::{ACCOUNT}:root"
    assert identities.accounts() == [ACCOUNT]
    with pytest.raises(AlreadyExists):
        identities.create_account(ACCOUNT)
    assert identities.root_key("999999999999") is None


def test_find_knows_only_what_there_is(identities):
    made = identities.create_account(ACCOUNT)
    assert identities.find("AKIAXXXXXXXXXXXXXXXX") is None
    assert identities.find(made.access_key_id, "some token") is None
    assert identities.find("") is None


def test_find_reads_nothing_twice(identities, store, monkeypatch):
    made = identities.create_account(ACCOUNT)
    session = identities.session_token(made.principal)
    for _ in range(2):
        assert identities.find(made.access_key_id)
        assert identities.find(session.access_key_id, session.session_token)
        assert identities.policies(made).identity
    monkeypatch.setattr(store, "get", lambda *_: pytest.fail("a read"))
    assert identities.find(made.access_key_id) is identities.find(made.access_key_id)
    assert identities.find(session.access_key_id, session.session_token) == session
    assert identities.policies(made) is identities.policies(made.principal)


def test_find_sees_a_change_at_once(identities, store):
    made = identities.create_account(ACCOUNT)
    assert identities.find(made.access_key_id)
    row = store.get(ACCESS_KEYS, made.access_key_id)
    store.write(Put(ACCESS_KEYS, row.id, {**row.value, "Status": "Inactive"}))
    assert identities.find(made.access_key_id) is None
    assert identities.root_key(ACCOUNT) is None


def test_a_session_outlives_the_process_but_not_its_keys(identities, store, keyring, tmp_path):
    arn = put_role(store)
    session = identities.assume_role(
        LAMBDA, arn, "s1", policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
    )
    again = Identities(store, keyring, VirtualClock(), Ids())
    assert again.find(session.access_key_id, session.session_token) == session
    foreign = Identities(store, Keyring(tmp_path / "other" / "master.key"), VirtualClock(), Ids())
    assert foreign.find(session.access_key_id, session.session_token) is None


def test_a_narrowed_session_stays_narrow_wherever_its_principal_goes(identities, store):
    arn = put_role(store)
    policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
    session = identities.assume_role(LAMBDA, arn, "s1", policy=policy)
    wide = identities.assume_role(LAMBDA, arn, "s1")
    assert len(identities.policies(session.principal).session) == 1
    assert identities.policies(wide.principal).session is None
    assert identities.policies(session).session == identities.policies(session.principal).session


def test_assume_role_says_when_it_ends(identities, store):
    clock = VirtualClock()
    identities = Identities(store, identities._keyring, clock, Ids())
    session = identities.assume_role(LAMBDA, put_role(store), "s1", duration_s=900)
    assert (session.expires - session.issued).total_seconds() == 900
    clock.advance(10_000)
    found = identities.find(session.access_key_id, session.session_token)
    assert found.expires < clock.now()


def test_assume_role_asks_the_trust_policy(identities, store):
    condition = {"StringEquals": {"aws:SourceAccount": ACCOUNT}, "ArnLike": {"aws:SourceArn": "arn:aws:lambda:*:*:function:f*"}}
    arn = put_role(store, "bound", Condition=condition)
    source = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
    good = Principal("service", ACCOUNT, "", LAMBDA.name, LAMBDA.name, source_arn=source + "f1")
    assert identities.assume_role(good, arn, "s1").principal.issuer_arn == arn
    other = Principal("service", ACCOUNT, "", LAMBDA.name, LAMBDA.name, source_arn=source + "g1")
    sagemaker = Principal("service", ACCOUNT, "", "sagemaker.amazonaws.com", "sagemaker.amazonaws.com", source_arn=source + "f1")
    for caller in (other, sagemaker):
        with pytest.raises(Denied, match="is not authorized to perform: sts:AssumeRole"):
            identities.assume_role(caller, arn, "s1")
    with pytest.raises(Denied):
        identities.assume_role(good, arn + "x", "s1")
    with pytest.raises(ServiceError, match="MaxSessionDuration"):
        identities.assume_role(good, arn, "s1", duration_s=3601)


def test_trust_policy_needs_the_whole_arn(identities, store):
    arn = put_role(store, path="/deep/")
    assert identities.trust_policy(arn)["Statement"][0]["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert identities.trust_policy(arn.replace("/deep", "")) is None
    assert identities.trust_policy("arn:aws:s3:::bucket") is None


def test_a_session_of_a_role_made_anew_is_nobody(identities, store):
    session = identities.assume_role(LAMBDA, put_role(store), "s1")
    store.write(Put(table(ACCOUNT, "Role"), "worker", {**role_row("worker"), "RoleId": "AROAOTHER"}))
    assert identities.find(session.access_key_id, session.session_token) is None
    assert identities.policies(session).identity == ()


def test_a_boundary_whose_policy_is_gone_allows_nothing(identities, store):
    row = role_row("worker") | {"_boundary": f"arn:aws:iam::{ACCOUNT}:policy/gone"}
    store.write(Insert(table(ACCOUNT, "Role"), "worker", row))
    session = identities.assume_role(LAMBDA, row["Arn"], "s1")
    assert identities.policies(session).boundary.statements == ()


def test_key_ids_carry_the_account():
    made = access_key_id("AKIA", "000000000001", Ids())
    assert (len(made), account_of_key(made)) == (20, "000000000001")
    assert account_of_key(access_key_id("ASIA", "999999999999", Ids())) == "999999999999"
    assert account_of_key("AKIAIOSFODNN7EXAMPLE") is None
    assert account_of_key("AKIA") is None


def test_no_secret_lies_open_on_the_disk(tmp_path, keyring):
    store = SqliteRecords(tmp_path / "records.sqlite")
    made = Identities(store, keyring, VirtualClock(), Ids()).create_account(ACCOUNT)
    store.close()
    with sqlite3.connect(tmp_path / "records.sqlite") as db:
        db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(made.access_key_id.encode() in content for content in files)
    assert not any(made.secret.encode() in content for content in files)
