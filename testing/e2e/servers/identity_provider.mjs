// A real OpenID Connect provider (npm oidc-provider) on a port of its own choosing. It issues tokens by its standard
// endpoints, and under /test/ it does at once what takes a person or a key ceremony elsewhere: a token for a named
// user, new signing keys. Argument: the folder the package is installed in.
//
//   POST /test/token   {sub, resource, scope, format: "jwt" | "opaque", seconds, claims}  ->  {access_token}
//   POST /test/rotate  {keep}   new signing keys; the old ones stay published if `keep`   ->  {kid}
//   POST /test/outage  {status} every other path answers so from now on; 0 ends it         ->  {}
//   POST /test/exchange {refuse: [sub], seconds} whose tokens are not exchanged, how long exchanged ones live -> {}
//   GET  /test/exchanged  the tokens given in exchange (RFC 8693) up to now               ->  [token]
//   GET  /test/counts  how often each path was asked for                                  ->  {path: count}
//
// Clients: `machine` may have tokens for itself, `gateway` may ask about tokens and exchange them. Secrets: the names
// with `-secret`.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";

const [folder] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { default: Provider, errors } = await import(pathToFileURL(require.resolve("oidc-provider")));
const { createLocalJWKSet, jwtVerify } = await import(pathToFileURL(require.resolve("jose")));

// The opaque format, for tokens that only the provider itself understands.
const OPAQUE = "opaque:";

// RFC 8693: the grant, and the one type of token that goes in and comes out.
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";

const newKey = () => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
};

const resourceServer = (resource, scope) => {
  const opaque = resource.startsWith(OPAQUE);
  return {
    audience: opaque ? resource.slice(OPAQUE.length) : resource,
    scope: scope ?? "mcp tools",
    accessTokenTTL: 3600,
    accessTokenFormat: opaque ? "opaque" : "jwt",
    jwt: { sign: { alg: "RS256" } },
  };
};

const configuration = (keys) => ({
  jwks: { keys },
  cookies: { keys: ["a cookie secret of a test"] },
  clients: [
    {
      client_id: "machine",
      client_secret: "machine-secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: "gateway",
      client_secret: "gateway-secret",
      grant_types: [EXCHANGE],
      redirect_uris: [],
      response_types: [],
    },
  ],
  scopes: ["openid", "mcp", "tools"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => resourceServer(resource),
    },
  },
  extraTokenClaims: (_ctx, token) => token.extra,
  findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
});

let keys = [newKey()];
let provider;
let status = 0;
const counts = {};
let issuer;

let exchanging = { refuse: [], seconds: 3600 };
const exchanged = [];

// A signed token of ours for somebody becomes one for the audience asked for, with the same subject.
const exchange = async (ctx) => {
  const { subject_token, subject_token_type, audience, scope = "mcp" } = ctx.oidc.params;
  if (subject_token_type !== ACCESS_TOKEN || !audience) throw new errors.InvalidRequest("no token, or nowhere to go");
  const published = keys.map(({ kty, n, e, kid, alg }) => ({ kty, n, e, kid, alg }));
  const verified = await jwtVerify(subject_token, createLocalJWKSet({ keys: published }), { issuer }).catch(() => {
    throw new errors.InvalidGrant("subject_token is not good");
  });
  const sub = verified.payload.sub;
  if (exchanging.refuse.includes(sub)) throw new errors.AccessDenied("not for you");
  const server = new provider.ResourceServer(audience, resourceServer(audience, scope));
  const token = new provider.AccessToken({
    accountId: sub,
    client: ctx.oidc.client,
    scope,
    expiresIn: exchanging.seconds,
  });
  token.resourceServer = server;
  const access_token = await token.save();
  exchanged.push(access_token);
  const expires_in = exchanging.seconds;
  ctx.body = { access_token, issued_token_type: ACCESS_TOKEN, token_type: "Bearer", expires_in, scope };
};

const begin = () => {
  provider = new Provider(issuer, configuration(keys));
  const parameters = ["subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope"];
  provider.registerGrantType(EXCHANGE, exchange, parameters);
  provider.on("server_error", (_ctx, error) => console.error(error));
};

const test = {
  async token({ sub, resource, scope = "mcp tools", format = "jwt", seconds = 3600, claims }) {
    const client = await provider.Client.find("machine");
    const name = format === "opaque" ? OPAQUE + resource : resource;
    const server = new provider.ResourceServer(name, resourceServer(name, scope));
    const token = new provider.AccessToken({ accountId: sub, client, scope, extra: claims, expiresIn: seconds });
    token.resourceServer = server;
    return { access_token: await token.save() };
  },
  async rotate({ keep = false }) {
    // The first of the list signs.
    keys = [newKey(), ...(keep ? keys : [])];
    begin();
    return { kid: keys[0].kid };
  },
  async outage(asked) {
    status = asked.status;
    return {};
  },
  async exchange({ refuse = [], seconds = 3600 }) {
    exchanging = { refuse, seconds };
    return {};
  },
  async exchanged() {
    return exchanged;
  },
  async counts() {
    return counts;
  },
};

const read = async (request) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text === "" ? {} : JSON.parse(text);
};

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, issuer);
  const answer = (code, value) => {
    response.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify(value));
  };
  if (pathname.startsWith("/test/")) {
    try {
      answer(200, await test[pathname.slice("/test/".length)](await read(request)));
    } catch (error) {
      answer(500, { error: String(error) });
    }
    return;
  }
  counts[pathname] = (counts[pathname] ?? 0) + 1;
  if (status !== 0) return answer(status, {});
  provider.callback()(request, response);
});

server.listen(0, "127.0.0.1", () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  begin();
  console.log(`identity provider: ${issuer}`);
});
