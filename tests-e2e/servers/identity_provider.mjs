// A real OpenID Connect provider (npm oidc-provider) on a port of its own choosing. It issues tokens by its standard
// endpoints, and under /test/ it does at once what takes a person or a key ceremony elsewhere: a token for a named
// user, new signing keys. Argument: the folder the package is installed in.
//
//   POST /test/token   {sub, resource, scope, format: "jwt" | "opaque", seconds, claims}  ->  {access_token}
//   POST /test/rotate  {keep}   new signing keys; the old ones stay published if `keep`   ->  {kid}
//   POST /test/outage  {status} every other path answers so from now on; 0 ends it         ->  {}
//   GET  /test/counts  how often each path was asked for                                  ->  {path: count}
//
// Clients: `machine` may have tokens for itself, `gateway` may ask about tokens. Secrets: the names with `-secret`.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";

const [folder] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

// The opaque format, for tokens that only the provider itself understands.
const OPAQUE = "opaque:";

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
      grant_types: [],
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

const begin = () => {
  provider = new Provider(issuer, configuration(keys));
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
