//! Token exchange end to end: a gateway exchanges callers' tokens at a third-party identity provider. Its
//! backend accepts only tokens for itself and lists different tools to each user.

use std::thread;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::identity::{Format, GATEWAY, IdentityProvider};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, names, refusal_code};
use vmcp_e2e::process::fixture;

/// The audience of callers' tokens, and the audience of tokens for the backend.
const FRONT: &str = "http://front.example/mcp";
const BACK: &str = "http://back.example/mcp";
/// A key in the format of `vmcp auth new-key`.
const KEY: &str = "vmcp_Y3JhbmtzLWFuZC1nZWFycy1vZi10aGUtZW5naW5lLTE";

fn oidc(provider: &IdentityProvider, audience: &str, more: &str) -> String {
    format!(
        "incomingAuth:\n  type: oidc\n  oidc: {{issuer: \"{}\", audience: \"{audience}\", \
         protectedResourceAllowPrivateIp: true}}\n{more}",
        provider.issuer,
    )
}

/// The protected backend: alice may do everything there, others may only call echo.
fn protected(provider: &IdentityProvider) -> anyhow::Result<Gateway> {
    let policies = "  authz:\n    type: cedar\n    policies:\n      \
         - 'permit(principal == Client::\"alice\", action, resource);'\n      \
         - 'permit(principal, action == Action::\"call_tool\", resource == Tool::\"echo\");'\n";
    let text = config(NamePolicy::Unchanged, &[Backend::stdio("lab", &fixture(&["echo"])?)], "");
    let incoming = oidc(provider, BACK, policies);
    Gateway::start(&text.replace("incomingAuth: {type: anonymous}\n", &incoming))
}

/// The gateway under test: the backend `open` needs no credentials, the backend `own` receives each caller's
/// exchanged token.
fn exchanging(provider: &IdentityProvider, back: &Gateway, extra: &str) -> anyhow::Result<Gateway> {
    let backends = [Backend::stdio("open", &fixture(&["echo"])?), Backend::http("own", &back.url)];
    let text = config(NamePolicy::Prefixed, &backends, extra);
    let keys = format!("  apiKeys: [{{name: ci, hash: \"{}\"}}]\n", vmcp_identity::hash_api_key(KEY));
    let exchange = format!(
        "outgoingAuth:\n  source: inline\n  backends:\n    own:\n      type: token_exchange\n      tokenExchange: \
         {{tokenUrl: \"{}/token\", clientId: {}, clientSecret: {}, audience: \"{BACK}\", scopes: [mcp]}}\n",
        provider.issuer, GATEWAY.0, GATEWAY.1,
    );
    let text = text.replace("incomingAuth: {type: anonymous}\n", &oidc(provider, FRONT, &keys));
    Gateway::start(&text.replace("outgoingAuth: {source: inline}\n", &exchange))
}

/// The outcome of a call: its text, `failed`, or the code of the error.
fn outcome(client: &mut HttpClient, tool: &str) -> anyhow::Result<String> {
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": {"text": "x"}}))?;
    let answer: Value = serde_json::from_str(&answer.text)?;
    Ok(match refusal_code(&answer) {
        Some(code) => code.to_string(),
        None if answer["result"]["isError"] == true => "failed".to_owned(),
        None => answer["result"]["content"][0]["text"].as_str().context("a text")?.to_owned(),
    })
}

/// Expected results for each caller: the listed tools of `own`, and the outcome of calls.
const TABLE: &str = "\
alice: own_crash own_echo own_grow own_sleep own_whoami; echo x, whoami 0
bob: own_echo; echo x, whoami -32602
carol: nothing; echo -32602, whoami -32602
a machine: nothing; echo -32602, whoami -32602
";

#[test]
fn each_user_sees_and_calls_what_the_exchanged_token_is_good_for() -> anyhow::Result<()> {
    let provider = IdentityProvider::start()?;
    provider.refuse_exchanges(&["carol"])?;
    let back = protected(&provider)?;
    let front = exchanging(&provider, &back, "")?;
    let token = |who: &str| provider.user_token(Format::Signed, who, FRONT);
    let callers = [
        ("alice", token("alice")?),
        ("bob", token("bob")?),
        ("carol", token("carol")?),
        ("a machine", KEY.to_owned()),
    ];
    for family in ProtocolFamily::ALL {
        let mut table = String::new();
        for (who, token) in &callers {
            let mut client = HttpClient::open_with_token(&front.url, family, token)?;
            let mut listed = names(&client.list_tools()?);
            listed.sort();
            ensure!(listed.iter().filter(|name| name.starts_with("open_")).count() == 5, "{who}: {listed:?}");
            listed.retain(|name| name.starts_with("own_"));
            let shown = if listed.is_empty() { "nothing".to_owned() } else { listed.join(" ") };
            let (echo, whoami) = (outcome(&mut client, "own_echo")?, outcome(&mut client, "own_whoami")?);
            table += &format!("{who}: {shown}; echo {echo}, whoami {whoami}\n");
            ensure!(outcome(&mut client, "open_echo")? == "x", "{who} at the open server");
        }
        ensure!(table == TABLE, "{family:?}:\n{table}\n{}", front.process.output());
    }
    // Neither the callers' tokens nor the exchanged tokens may be in the output of either gateway.
    let exchanged = provider.exchanged()?;
    ensure!(exchanged.len() == 2, "one exchange for alice, one for bob: {}", exchanged.len());
    let said = front.process.output() + &back.process.output();
    let shown = callers.iter().map(|(_, token)| token);
    for secret in shown.chain(&exchanged).map(String::as_str).chain([GATEWAY.1]) {
        ensure!(!said.contains(secret), "a credential is in the log");
    }
    // A token for one gateway is not valid at the other.
    for (gateway, token) in [(&back, &callers[0].1), (&front, &exchanged[0])] {
        ensure!(HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, token).is_err());
    }
    Ok(())
}

#[test]
fn ten_thousand_calls_of_ten_users_are_ten_exchanges() -> anyhow::Result<()> {
    const USERS: usize = 10;
    const CALLS: usize = 1000;
    let provider = IdentityProvider::start()?;
    let back = protected(&provider)?;
    let front = exchanging(&provider, &back, "")?;
    let mut callers = Vec::new();
    for number in 0..USERS {
        let token = provider.user_token(Format::Signed, &format!("user-{number}"), FRONT)?;
        let url = front.url.clone();
        callers.push(thread::spawn(move || -> anyhow::Result<()> {
            let family = if number % 2 == 0 { ProtocolFamily::Sessions } else { ProtocolFamily::Stateless };
            let mut client = HttpClient::open_with_token(&url, family, &token)?;
            for call in 0..CALLS {
                let ended = outcome(&mut client, "own_echo")?;
                ensure!(ended == "x", "call {call} of user {number}: {ended}");
            }
            Ok(())
        }));
    }
    for caller in callers {
        caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
    }
    // The tokens are valid for an hour, so each user needs exactly one exchange.
    let exchanged = provider.exchanged()?.len();
    ensure!(exchanged == USERS, "{exchanged} exchanges for {} calls of {USERS} users", USERS * CALLS);
    Ok(())
}
