// The door of a Code Editor app: node door.mjs PORT PROGRAM FOLDER
//
// code-server knows one password for ever, or none. So it listens where only this app's own programs come, on a socket, and the door
// in front of it lets in who shows an entry, `<end>.<user>.<signature>` under the key that the server gave us: by `?token=`, which
// becomes a cookie, or by the Authorization header. A session lasts until its entry's end, open connections too.

import { createHmac, timingSafeEqual } from "node:crypto";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request as send } from "node:http";
import { join } from "node:path";

const [port, program, folder] = process.argv.slice(2);
const key = process.env.PILVI_NOTEBOOK_KEY ?? "";
delete process.env.PILVI_NOTEBOOK_KEY;

// A short path: the kernel takes no more than 107 letters.
const place = mkdtempSync("/tmp/door-");
const socket = join(place, "s");
// Cookies know no ports: every app on this machine has its own.
const cookie = `pilvi-session-${port}`;

const settings = {
  "chat.disableAIFeatures": true,
  "extensions.autoCheckUpdates": false,
  "extensions.ignoreRecommendations": true,
  "telemetry.telemetryLevel": "off",
  "update.mode": "none",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.startupEditor": "none",
};

// What the editor does unless its owner says otherwise: theirs stands in a file of their own.
function writeDefaults() {
  const machine = join(process.env.HOME, ".local/share/code-server/Machine");
  const file = join(machine, "settings.json");
  if (existsSync(file)) return;
  mkdirSync(machine, { recursive: true });
  writeFileSync(file, JSON.stringify(settings, null, 2));
}

function startEditor() {
  const options = [
    "--auth", "none", "--socket", socket, "--app-name", "Code Editor", "--disable-telemetry", "--disable-update-check",
    "--disable-workspace-trust", "--disable-getting-started-override", "--disable-proxy",
  ];
  const env = { ...process.env, NODE_EXEC_PATH: process.execPath };
  const child = spawn(process.execPath, [program, ...options, folder], { stdio: ["ignore", "inherit", "inherit"], env });
  const end = (code) => {
    rmSync(place, { recursive: true, force: true });
    process.exit(code);
  };
  child.on("error", (error) => {
    console.error(`The editor could not be started: ${error.message}`);
    end(1);
  });
  child.on("exit", (code, signal) => end(signal === null ? code : 0));
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => child.kill(signal));
}

// When the session of an entry ends, in seconds since 1970; 0 for what was not written under our key, or is over.
function endOf(entry) {
  const cut = entry.lastIndexOf(".");
  const told = entry.slice(0, Math.max(cut, 0));
  const signature = Buffer.from(entry.slice(cut + 1));
  const expected = Buffer.from(createHmac("sha256", key).update(told).digest("hex"));
  if (!key || signature.length !== expected.length || !timingSafeEqual(signature, expected)) return 0;
  const end = Number.parseInt(told, 10);
  return end > Date.now() / 1000 ? end : 0;
}

function cookiesOf(request) {
  const found = (request.headers.cookie ?? "").split(";").map((part) => part.trim().split("="));
  return found.filter(([name]) => name).map(([name, ...value]) => [name, value.join("=")]);
}

function sessionEnd(request) {
  const shown = (request.headers.authorization ?? "").replace(/^token /, "");
  const kept = cookiesOf(request).find(([name]) => name === cookie);
  return endOf(shown) || endOf(kept?.[1] ?? "");
}

// What the editor gets to see of a request: not the key to its own door.
function headersOf(request) {
  const { authorization, cookie: all, ...rest } = request.headers;
  const others = cookiesOf(request).filter(([name]) => name !== cookie);
  return others.length ? { ...rest, cookie: others.map((pair) => pair.join("=")).join("; ") } : rest;
}

function refuse(response, status, text) {
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store" });
  response.end(`${text}\n`);
}

// A token in the address becomes a cookie, and goes out of sight.
function enter(url, response) {
  const entry = url.searchParams.get("token");
  const end = endOf(entry);
  if (!end) return refuse(response, 403, "This URL has expired. Ask for a new presigned URL.");
  url.searchParams.delete("token");
  const age = Math.floor(end - Date.now() / 1000);
  response.writeHead(302, {
    Location: url.pathname.replace(/^\/+/, "/") + url.search,
    "Set-Cookie": `${cookie}=${entry}; Path=/; HttpOnly; SameSite=Lax; Max-Age=${age}`,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
  });
  response.end();
}

function answer(request, response) {
  const url = new URL(request.url, "http://door");
  if (url.searchParams.has("token")) return enter(url, response);
  if (!sessionEnd(request)) return refuse(response, 403, "The session has ended. Ask for a new presigned URL.");
  const passed = send({ socketPath: socket, path: request.url, method: request.method, headers: headersOf(request) }, (from) => {
    response.writeHead(from.statusCode, from.headers);
    from.pipe(response);
  });
  passed.on("error", () => (response.headersSent ? response.destroy() : refuse(response, 503, "The editor is not ready.")));
  response.on("close", () => passed.destroy());
  request.pipe(passed);
}

// A connection that stays open: both ways as it comes, until the session's end.
function pass(request, client, head) {
  const end = sessionEnd(request);
  client.on("error", () => client.destroy());
  if (!end) return client.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n");
  const passed = send({ socketPath: socket, path: request.url, method: "GET", headers: headersOf(request) });
  passed.on("error", () => client.destroy());
  passed.on("response", (from) => {
    client.end(`HTTP/1.1 ${from.statusCode} ${from.statusMessage}\r\nConnection: close\r\n\r\n`);
    from.destroy();
  });
  passed.on("upgrade", (from, editor, first) => {
    const lines = from.rawHeaders.flatMap((name, index, all) => (index % 2 ? [] : [`${name}: ${all[index + 1]}`]));
    client.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("\r\n")}\r\n\r\n`);
    client.write(first);
    editor.write(head);
    const over = setTimeout(() => client.destroy(), end * 1000 - Date.now());
    client.on("close", () => { clearTimeout(over); editor.destroy(); });
    editor.on("error", () => client.destroy());
    editor.on("close", () => client.destroy());
    client.setNoDelay(true);
    client.pipe(editor).pipe(client);
  });
  passed.end();
}

const server = createServer(answer);
server.on("upgrade", pass);
server.on("error", (error) => {
  console.error(error.code === "EADDRINUSE" ? `The port ${port} is already in use.` : String(error));
  process.exit(1);
});
server.listen(Number(port), "127.0.0.1", () => {
  writeDefaults();
  startEditor();
});
