// A resource server, express with express-oauth2-jwt-bearer, on a free loopback port.
//
//   node api.mjs ISSUER   (or the environment's ISSUER)

import { listen, ready } from "./support.mjs";

import express from "express";
import { auth, requiredScopes } from "express-oauth2-jwt-bearer";

const issuer = process.argv[2] ?? process.env.ISSUER;
if (!issuer) throw new Error("name the issuer: node api.mjs http://127.0.0.1:PORT");

const counts = { ok: 0, unauthorized: 0, forbidden: 0, other: 0 };
const outcomes = { 200: "ok", 401: "unauthorized", 403: "forbidden" };

const app = express();
app.disable("x-powered-by");
app.get("/counts", (_request, response) => response.json(counts));
app.use((_request, response, next) => {
  response.on("finish", () => {
    counts[outcomes[response.statusCode] ?? "other"] += 1;
  });
  next();
});
// The default leeway is 5 seconds: here a token that has expired is refused at once.
app.use(auth({ issuerBaseURL: issuer, audience: "https://api.test/", clockTolerance: 0, strict: true }));
app.use(express.raw({ type: () => true }));

// `received` proves that a request arrived with its whole body.
app.all("/documents", requiredScopes("read"), (request, response) => {
  const { sub, scope } = request.auth.payload;
  response.json({ documents: ["a", "b"], sub, scope, received: request.body?.length ?? 0 });
});

app.all("/admin", requiredScopes("admin"), (_request, response) => response.json({ admin: true }));

app.use((error, _request, response, _next) => {
  if (!error.status) console.error(error);
  response
    .status(error.status ?? 500)
    .set(error.headers ?? {})
    .json({ error: error.code ?? "unauthorized", error_description: error.message });
});

const server = await listen();
server.install(app);
ready({
  url: server.url,
  documents_url: `${server.url}/documents`,
  admin_url: `${server.url}/admin`,
  counts_url: `${server.url}/counts`,
});
