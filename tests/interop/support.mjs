// What both servers share: where they listen, what they print, when they end.
//
// Import it first: it prepares the process before the libraries load.

import { createServer } from "node:http";

// stdout carries one line, the one that `ready` prints. Libraries that log there are sent to stderr.
console.log = console.info = console.debug = console.error;

// oidc-provider 9 calls `URL.parse`, which Node.js has since version 22.
URL.parse ??= (url, base) => (URL.canParse(url, base) ? new URL(url, base) : null);

/**
 * Listens on a free loopback port and returns the address together with a way to install the
 * application, which may need to know that address first (an issuer names its own port).
 */
export async function listen() {
  let application = (_request, response) => response.writeHead(503).end();
  const server = createServer((request, response) => application(request, response));
  await new Promise((resolve, reject) => {
    server.once("error", reject).listen(0, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    install(handler) {
      application = handler;
    },
  };
}

/** Says, on stdout and in one line, that the server answers, and where. */
export function ready(facts) {
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}

/** Answers with JSON, for handlers that sit in front of a framework. */
export function json(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

// A server must not outlive the test that started it, however that test ends: the pipe closes even
// when the parent is killed.
const stop = () => process.exit(0);
process.stdin.on("end", stop).on("close", stop).on("error", stop).resume();
process.on("SIGTERM", stop).on("SIGINT", stop);
