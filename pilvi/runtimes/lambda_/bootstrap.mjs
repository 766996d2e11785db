// The program of a Lambda worker in Node: takes events from the runtime API and gives them to a handler.
//
//     bootstrap.mjs HANDLER          (in the lambda-node environment, with AWS_LAMBDA_RUNTIME_API set)
//
// As runtimes/lambda_/bootstrap.py does: marks in the output where an invocation starts and ends, and messages of several lines kept as one.
// Source: Lambda developer guide, "Using the Lambda runtime API for custom runtimes", "Define Lambda function handler in Node.js".

import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import util from "node:util";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const API = "2018-06-01/runtime";
const MARK = "\x04";
const FRAME = "\x1e";
const [address, ...below] = process.env.AWS_LAMBDA_RUNTIME_API.split("/");
const [host, port] = address.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
let current = "";

function call(method, endpoint, body) {
  return new Promise((resolve, reject) => {
    const options = { host, port, agent, method, path: `/${[...below, API, endpoint].join("/")}`, headers: {} };
    if (body !== undefined) options.headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const request = http.request(options, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces).toString() }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

function say(text) {
  const lines = text.replace(/\n$/, "").split("\n");
  write(lines.length > 1 ? `${FRAME}${lines.join("\r")}\n` : `${lines[0]}\n`);
}

function write(text) {
  let rest = Buffer.from(text);
  while (rest.length) {
    try {
      rest = rest.subarray(fs.writeSync(1, rest));
    } catch (error) {
      if (error.code !== "EAGAIN") return;
    }
  }
}

function mark(kind, id) {
  write(`${MARK}${kind} ${id}\n`);
}

const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

function patchConsole() {
  const isJson = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
  const least = isJson ? LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL ?? "INFO") : 0;
  const at = (level) => (...said) => {
    if (LEVELS.indexOf(level) < least) return;
    const timestamp = new Date().toISOString();
    if (!isJson) return say(`${timestamp}\t${current}\t${level}\t${util.format(...said)}`);
    const message = said.length === 1 && typeof said[0] === "object" && !(said[0] instanceof Error) ? said[0] : util.format(...said);
    say(JSON.stringify({ timestamp, level, requestId: current, message }));
  };
  Object.assign(console, { log: at("INFO"), info: at("INFO"), debug: at("DEBUG"), trace: at("TRACE"), warn: at("WARN"), error: at("ERROR") });
}

function told(error) {
  const stack = error instanceof Error ? String(error.stack ?? "").split("\n") : [];
  return {
    errorType: error?.name ?? typeof error,
    errorMessage: error?.message ?? String(error),
    trace: stack,
  };
}

class Failure extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

async function load(handler) {
  const root = process.env.LAMBDA_TASK_ROOT;
  const found = /^(.*\/)?([^/.]+)\.(.+)$/.exec(handler);
  if (!found || handler.includes("..")) throw new Failure("Runtime.MalformedHandlerName", "Bad handler");
  const base = path.resolve(root, found[1] ?? "", found[2]);
  const file = [".js", ".mjs", ".cjs"].map((ending) => base + ending).find((each) => fs.existsSync(each));
  if (!file) {
    throw new Failure("Runtime.ImportModuleError", `Error: Cannot find module '${found[2]}'\nRequire stack:\n- ${root}/index.mjs`);
  }
  let loaded;
  try {
    loaded = isModule(file, root) ? await import(pathToFileURL(file)) : createRequire(file)(file);
  } catch (error) {
    if (error?.code === "MODULE_NOT_FOUND" || error?.code === "ERR_MODULE_NOT_FOUND") {
      throw new Failure("Runtime.ImportModuleError", `Error: ${error.message}`);
    }
    if (error instanceof SyntaxError) throw new Failure("Runtime.UserCodeSyntaxError", `SyntaxError: ${error.message}`);
    throw error;
  }
  const wanted = found[3].split(".").reduce((each, name) => each?.[name], loaded) ?? loaded?.default?.[found[3]];
  if (typeof wanted !== "function") throw new Failure("Runtime.HandlerNotFound", `${handler} is undefined or not exported`);
  return wanted;
}

function isModule(file, root) {
  if (file.endsWith(".mjs")) return true;
  if (file.endsWith(".cjs")) return false;
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    const manifest = path.join(folder, "package.json");
    if (fs.existsSync(manifest)) return JSON.parse(fs.readFileSync(manifest, "utf8")).type === "module";
    if (folder === root || folder === path.dirname(folder)) return false;
  }
}

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const client = headers["lambda-runtime-client-context"];
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: client ? JSON.parse(client) : undefined,
    identity: undefined,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

function run(handler, event, context) {
  return new Promise((resolve, reject) => {
    const done = (error, result) => (error ? reject(error) : resolve(result));
    Object.assign(context, { done, succeed: resolve, fail: reject });
    const answer = handler(event, context, done);
    if (typeof answer?.then === "function") answer.then(resolve, reject);
    else if (handler.length < 3) setImmediate(resolve, null);
  });
}

async function next(handler) {
  const event = await call("GET", "invocation/next");
  if (event.status !== 200) process.exit(0);
  const id = event.headers["lambda-runtime-aws-request-id"];
  current = id;
  process.env._X_AMZN_TRACE_ID = event.headers["lambda-runtime-trace-id"] ?? "";
  mark("S", id);
  let endpoint = "response";
  let body;
  try {
    body = JSON.stringify(await run(handler, JSON.parse(event.body), contextOf(event.headers))) ?? "null";
  } catch (error) {
    endpoint = "error";
    body = JSON.stringify(told(error));
    console.error("Invoke Error", body);
  }
  mark("E", id);
  current = "";
  await call("POST", `invocation/${id}/${endpoint}`, body);
}

async function crash(name, reason) {
  const body = JSON.stringify(told(new Failure(name, reason?.message ?? String(reason))));
  say(`${name}: ${reason?.stack ?? reason}`);
  if (current) await call("POST", `invocation/${current}/error`, body);
  process.exit(1);
}

patchConsole();
process.on("uncaughtException", (reason) => crash("Runtime.UnhandledError", reason));
process.on("unhandledRejection", (reason) => crash("Runtime.UnhandledPromiseRejection", reason));
let handler;
try {
  handler = await load(process.argv[2]);
} catch (error) {
  const body = JSON.stringify(told(error));
  say(`Uncaught Exception\t${body}`);
  await call("POST", "init/error", body);
  process.exit(1);
}
for (;;) await next(handler);
