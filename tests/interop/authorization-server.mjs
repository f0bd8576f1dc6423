// A certified authorization server, oidc-provider, on a free loopback port.
//
//   ACCESS_TOKEN_TTL    lifetime of its access tokens in seconds, 3600 unless set
//   REFRESH_TOKEN_TTL   lifetime of its refresh tokens in seconds, 14 days unless set
//   WEB_REDIRECT_URIS   where the client `web` may send people back to, separated by commas

import { json, listen, ready } from "./support.mjs";

import { generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import { Provider, errors } from "oidc-provider";

import { errorPage, interact } from "./interactions.mjs";

function seconds(name, unlessSet) {
  const value = Number(process.env[name] ?? unlessSet);
  if (!Number.isInteger(value) || value < 1) {
    throw new Error(`${name} must be a whole number of seconds, at least 1`);
  }
  return value;
}

const ttl = seconds("ACCESS_TOKEN_TTL", 3600);
const refreshTtl = seconds("REFRESH_TOKEN_TTL", 14 * 24 * 3600);

// A test that only reads the address of the last redirect needs nobody to listen there.
const webRedirectUris = (process.env.WEB_REDIRECT_URIS ?? "https://app.test/callback").split(",");
for (const uri of webRedirectUris) {
  if (!URL.canParse(uri)) throw new Error(`WEB_REDIRECT_URIS: not an absolute URL: ${uri}`);
}

// ---- Who may ask -----------------------------------------------------------------------------

// Every character that form encoding (RFC 6749 section 2.3.1) changes and that section A.1 and A.2
// allow (printable ASCII) stands in the first pair: sent as it is, it is refused.
const clients = {
  basic: { client_id: "service:a b", client_secret: 's3cr%t+/=&:?#"~ end' },
  post: { client_id: "form+client", client_secret: "p&st=s3cr%2Bt +/" },
  web: { client_id: "web-app", client_secret: "web s3cr%t+", redirect_uris: webRedirectUris },
  native: { client_id: "native-app", redirect_uris: ["http://127.0.0.1/callback"] },
};

const forPeople = {
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
  scope: "openid offline_access read write",
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
  {
    ...clients.web,
    ...forPeople,
    token_endpoint_auth_method: "client_secret_basic",
  },
  // On loopback a native application may listen on any port (RFC 8252 section 7.3).
  {
    ...clients.native,
    ...forPeople,
    application_type: "native",
    token_endpoint_auth_method: "none",
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
      if (key.startsWith(this.prefix) && payload.grantId === grantId) records.delete(key);
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
  // Whoever signs in has an account.
  findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  interactions: { url: (_context, { uid }) => `/interaction/${uid}` },
  renderError: errorPage,
  responseTypes: ["code"],
  pkce: { required: () => true },
  // A refresh token is good for one request. Seen again, it ends the grant: all its tokens.
  rotateRefreshToken: true,
  ttl: {
    AccessToken: ttl,
    ClientCredentials: ttl,
    RefreshToken: refreshTtl,
    Grant: refreshTtl + 14 * 24 * 3600,
    Session: 14 * 24 * 3600,
    Interaction: 3600,
    IdToken: 3600,
  },
  features: {
    devInteractions: { enabled: false },
    rpInitiatedLogout: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: (_context, client, token) => client.clientId === token.clientId },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_context, _client, granted) => granted ?? audience,
      // Otherwise the scope `openid` makes it a token for userinfo, which no API takes.
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, indicator) => {
        if (!(indicator in resources)) throw new errors.InvalidTarget();
        return resources[indicator];
      },
    },
  },
});
provider.on("server_error", (_context, error) => console.error(error));

// oidc-provider checks a registration when it first reads it: here a bad one ends the server at once.
for (const { client_id } of registrations) await provider.Client.find(client_id);

// ---- What was seen ---------------------------------------------------------------------------

const counts = { token: 0, token_granted: 0, authorization_code: 0, refresh: 0, introspection: 0, revocation: 0 };
const counted = {
  "/token": "token",
  "/token/introspection": "introspection",
  "/token/revocation": "revocation",
};

const countedGrants = { authorization_code: "authorization_code", refresh_token: "refresh" };
const countGrant = (context) => {
  const grant = context.oidc.params?.grant_type;
  if (Object.hasOwn(countedGrants, grant)) counts[countedGrants[grant]] += 1;
};
provider.on("grant.success", countGrant).on("grant.error", countGrant);

const answer = provider.callback();
server.install((request, response) => {
  const { pathname } = new URL(request.url, server.url);
  if (pathname === "/counts") return json(response, 200, counts);
  if (pathname.startsWith("/interaction/")) return interact(provider, request, response);
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
  discovery_url: `${server.url}/.well-known/openid-configuration`,
  authorization_url: `${server.url}/auth`,
  token_url: `${server.url}/token`,
  introspection_url: `${server.url}/token/introspection`,
  revocation_url: `${server.url}/token/revocation`,
  counts_url: `${server.url}/counts`,
  resources: Object.keys(resources),
  clients,
});
