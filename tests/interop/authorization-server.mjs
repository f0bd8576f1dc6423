// A certified authorization server, oidc-provider, on a free loopback port.
//
//   ACCESS_TOKEN_TTL   lifetime of its access tokens in seconds, 3600 unless set

import { json, listen, ready } from "./support.mjs";

import { generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import { Provider, errors } from "oidc-provider";

const ttl = Number(process.env.ACCESS_TOKEN_TTL ?? 3600);
if (!Number.isInteger(ttl) || ttl < 1) {
  throw new Error("ACCESS_TOKEN_TTL must be a whole number of seconds, at least 1");
}

// ---- Who may ask -----------------------------------------------------------------------------

// Every character that form encoding (RFC 6749 section 2.3.1) changes and that section A.1 and A.2
// allow (printable ASCII) stands in the first pair: sent as it is, it is refused.
const clients = {
  basic: { client_id: "service:a b", client_secret: 's3cr%t+/=&:?#"~ end' },
  post: { client_id: "form+client", client_secret: "p&st=s3cr%2Bt +/" },
};

const registrations = [
  {
    ...clients.basic,
    token_endpoint_auth_method: "client_secret_basic",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    scope: "read write",
  },
  {
    ...clients.post,
    token_endpoint_auth_method: "client_secret_post",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    scope: "read write",
  },
];

// ---- What tokens are for ---------------------------------------------------------------------

// The first is the one that a request without `resource` gets. Self-contained tokens (RFC 9068)
// are what the API checks; introspection and revocation only take opaque ones.
const resources = {
  "https://api.test/": {
    scope: "read write admin",
    accessTokenTTL: ttl,
    accessTokenFormat: "jwt",
    jwt: { sign: { alg: "RS256" } },
  },
  "https://opaque.test/": {
    scope: "read write admin",
    accessTokenTTL: ttl,
    accessTokenFormat: "opaque",
  },
};
const [audience] = Object.keys(resources);

// ---- What is kept ----------------------------------------------------------------------------

// oidc-provider's own memory adapter forgets beyond 1000 entries. This one forgets nothing: the
// server lives as long as one test.
const records = new Map();

class MapAdapter {
  constructor(model) {
    this.prefix = `${model}:`;
  }

  async upsert(id, payload) {
    records.set(this.prefix + id, payload);
  }

  async find(id) {
    return records.get(this.prefix + id);
  }

  async findByUid(uid) {
    return this.#first((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.#first((payload) => payload.userCode === userCode);
  }

  async consume(id) {
    records.get(this.prefix + id).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    records.delete(this.prefix + id);
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of records) {
      if (payload.grantId === grantId) records.delete(key);
    }
  }

  #first(matches) {
    for (const [key, payload] of records) {
      if (key.startsWith(this.prefix) && matches(payload)) return payload;
    }
  }
}

// ---- The provider ----------------------------------------------------------------------------

const server = await listen();

const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength: 2048 });
const signingKey = { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid: "1" };

const provider = new Provider(server.url, {
  adapter: MapAdapter,
  clients: registrations,
  clockTolerance: 0,
  cookies: { keys: ["interop"] },
  jwks: { keys: [signingKey] },
  scopes: ["openid", "offline_access", "read", "write", "admin"],
  ttl: {
    AccessToken: ttl,
    ClientCredentials: ttl,
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: (_context, client, token) => client.clientId === token.clientId },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      getResourceServerInfo: (_context, indicator) => {
        if (!(indicator in resources)) throw new errors.InvalidTarget();
        return resources[indicator];
      },
    },
  },
});
provider.on("server_error", (_context, error) => console.error(error));

// ---- What was seen ---------------------------------------------------------------------------

const counts = { token: 0, token_granted: 0, introspection: 0, revocation: 0 };
const counted = {
  "/token": "token",
  "/token/introspection": "introspection",
  "/token/revocation": "revocation",
};

const answer = provider.callback();
server.install((request, response) => {
  const { pathname } = new URL(request.url, server.url);
  if (pathname === "/counts") return json(response, 200, counts);
  if (pathname in counted) counts[counted[pathname]] += 1;
  if (pathname === "/token") {
    response.on("finish", () => {
      if (response.statusCode === 200) counts.token_granted += 1;
    });
  }
  return answer(request, response);
});

ready({
  url: server.url,
  issuer: provider.issuer,
  token_url: `${server.url}/token`,
  introspection_url: `${server.url}/token/introspection`,
  revocation_url: `${server.url}/token/revocation`,
  counts_url: `${server.url}/counts`,
  resources: Object.keys(resources),
  clients,
});
