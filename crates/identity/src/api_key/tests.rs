use super::*;

fn key(name: &str, hash: &str) -> ApiKey {
    ApiKey {
        name: name.to_owned(),
        hash: hash.to_owned(),
        scopes: Vec::new(),
        claims: Members::new(),
        expires_unix_s: None,
    }
}

#[test]
fn keys_are_found_by_their_hash_and_nothing_else() {
    let [ci, cron] = [0; 2].map(|_| new_api_key().unwrap());
    let mut second = key("cron", &cron.hash.to_ascii_uppercase().replace("SHA256", "sha256"));
    second.scopes = vec!["a".to_owned(), "b".to_owned()];
    second.claims.insert("team", Json::string("ops"));
    second.claims.insert("sub", Json::string("root"));
    second.expires_unix_s = Some(1000);
    let keys = ApiKeys::new(vec![key("ci", &ci.hash), second]).unwrap();
    let found = keys.verify(ci.key.expose(), 5000).unwrap();
    assert_eq!((&*found.identity.issuer, &*found.identity.subject), (API_KEY_ISSUER, "ci"));
    let again = keys.verify(ci.key.expose(), 5000).unwrap();
    assert!(Arc::ptr_eq(&found.identity, &again.identity));
    let found = keys.verify(cron.key.expose(), 999).unwrap();
    assert_eq!(
        found.identity.claims.to_json().as_str(),
        r#"{"team":"ops","sub":"cron","iss":"vmcp:api-key","scope":"a b"}"#
    );
    let late = keys.verify(cron.key.expose(), 1000).unwrap_err();
    assert_eq!(late, Unauthorized::InvalidToken(InvalidTokenReason::Expired));
    for wrong in ["vmcp_", &ci.hash, &format!("{}x", ci.key.expose()), &ci.key.expose()[..40]] {
        let refused = keys.verify(wrong, 0).unwrap_err();
        assert_eq!(refused, Unauthorized::InvalidToken(InvalidTokenReason::UnknownApiKey), "{wrong}");
    }
}

#[test]
fn new_keys_are_random_and_do_not_show_themselves() {
    let [one, two] = [0; 2].map(|_| new_api_key().unwrap());
    assert_ne!(one.key.expose(), two.key.expose());
    assert!(one.key.expose().starts_with(KEY_PREFIX));
    assert_eq!(one.key.expose().len(), KEY_PREFIX.len() + 43);
    assert_eq!(one.hash, hash_api_key(one.key.expose()));
    assert!(!format!("{one:?}").contains(one.key.expose()));
    // SHA-256 of the empty text, from the examples of FIPS 180-4.
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(hash_api_key(""), empty);
}

#[test]
fn keys_with_flaws_are_refused_all_at_once() {
    let good = hash_api_key("vmcp_x");
    let long = "n".repeat(257);
    let flaws = ApiKeys::new(vec![
        key("a", &good),
        key("a", &hash_api_key("vmcp_y")),
        key("b", &good),
        key("c", "vmcp_secret"),
        key("d", "sha256:00"),
        key("", &good),
        key(&long, &good),
    ])
    .unwrap_err();
    assert_eq!(flaws.len(), 6, "{flaws:?}");
    assert!(flaws.iter().all(|flaw| !flaw.to_string().contains("vmcp_secret")));
    let many = (0..=KEYS_MAX).map(|number| key(&format!("k{number}"), &hash_api_key(&number.to_string())));
    assert_eq!(ApiKeys::new(many.collect()).unwrap_err().len(), 1);
}
