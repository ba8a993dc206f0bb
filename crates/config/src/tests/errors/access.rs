//! Wrong configs about authentication and authorization.

/// The title and the text of each config.
pub(super) const ACCESS: &[(&str, &str)] = &[
    (
        "an issuer that nobody could trust",
        "
name: a
backends: [{name: b, command: c}]
incomingAuth:
  type: oidc
  oidc:
    issuer: 'http://login.example.com'
    audience: ''
    clientSecretEnv: NO_SUCH
    jwksUrl: 'https://10.0.0.1/keys'
    scopes: ['two words']
    caBundlePath: relative.pem
    algorithms: [HS256]
    leeway: 2m
",
    ),
    ("an issuer that is not named", "name: a\nbackends: [{name: b, command: c}]\nincomingAuth: {type: oidc}"),
    ("keys that nobody has", "name: a\nbackends: [{name: b, command: c}]\nincomingAuth: {type: apiKey}"),
    (
        "keys that could not be presented, or compared",
        "
name: a
backends: [{name: b, command: c}]
incomingAuth: {type: apiKey, apiKeys: [{name: '', hash: 'sha256:00'}, {name: ci, hash: plain-text-key}]}
",
    ),
    (
        "keys where nobody is asked for one",
        "
name: a
backends: [{name: b, command: c}]
incomingAuth: {type: anonymous, apiKeys: [{name: ci, hash: 'sha256:00'}]}
",
    ),
    (
        "policies that cannot be read",
        "
name: a
backends: [{name: b, command: c}]
incomingAuth:
  type: local
  authz:
    type: cedar
    policies: ['permit(principal, action, resource);', 'permit(principal)', '']
    entitiesJson: '[{\"uid\": 1}]'
    groupEntityType: 'A::B'
    primaryUpstreamProvider: x
",
    ),
    (
        "no policies where there must be some",
        "name: a\nbackends: [{name: b, command: c}]\nincomingAuth: {type: local, authz: {type: cedar}}",
    ),
];
