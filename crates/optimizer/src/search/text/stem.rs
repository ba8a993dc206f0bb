//! A stemmer for English, by the endings of the words that describe tools, without a dictionary. Measured on
//! labelled queries, it finds as much as Porter's second algorithm at half the cost.

/// Minimum number of letters that must remain when an ending is removed.
const LETTERS_MIN: usize = 3;

/// Appends the stem of a case-folded word: the same for `create`, `creates`, `created`, `creating`,
/// `creation` and `creator`. A stem need not be a word. A word of another language loses at most an ending,
/// always the same one.
pub(crate) fn append_stem(word: &str, out: &mut String) {
    let inflects = word.len() > LETTERS_MIN && word.bytes().all(|byte| byte.is_ascii_lowercase());
    if !inflects {
        out.push_str(word);
        return;
    }
    let singular = without_plural(word);
    let verb = without_inflection(singular);
    let root = without_derivation(verb, verb.len() < singular.len());
    match root.strip_suffix('y') {
        Some(rest) if rest.len() >= LETTERS_MIN => {
            out.push_str(rest);
            out.push('i');
        }
        _ => out.push_str(strip(root, "e", LETTERS_MIN).unwrap_or(root)),
    }
}

/// `word` without `ending`, if at least `letters_min` letters remain.
fn strip<'a>(word: &'a str, ending: &str, letters_min: usize) -> Option<&'a str> {
    word.strip_suffix(ending).filter(|rest| rest.len() >= letters_min)
}

/// `queries` becomes `queri`; the last step of [`append_stem`] turns `query` into the same.
fn without_plural(word: &str) -> &str {
    let kept = ["ss", "us", "is"].iter().any(|ending| word.ends_with(ending)) || word == "news";
    let long = ["sses", "shes", "ches", "xes", "ies"].iter().any(|ending| word.ends_with(ending));
    match word.strip_suffix('s') {
        Some(rest) if !kept => rest.strip_suffix('e').filter(|_| long).unwrap_or(rest),
        _ => word,
    }
}

/// `planned` and `planning` become `plan`, `called` becomes `call`.
fn without_inflection(word: &str) -> &str {
    let kept = word.ends_with("eed") || word == "embed";
    let rest = strip(word, "ing", LETTERS_MIN).or_else(|| strip(word, "ed", LETTERS_MIN).filter(|_| !kept));
    match rest {
        Some(rest) if rest.bytes().any(|byte| b"aeiouy".contains(&byte)) => without_doubling(rest),
        _ => word,
    }
}

/// `creation`, `creator` and `create` become `cre`, and so does the `creat` of `created`; `reader` becomes `read`.
fn without_derivation(word: &str, inflected: bool) -> &str {
    if word.ends_with("ation") {
        return strip(word, "ation", LETTERS_MIN).unwrap_or(word);
    }
    let verb = strip(word, "ator", LETTERS_MIN).or_else(|| strip(word, "ate", LETTERS_MIN));
    let verb = verb.or_else(|| strip(word, "at", LETTERS_MIN).filter(|_| inflected));
    let noun = || {
        let agent = strip(word, "er", 4).or_else(|| strip(word, "or", 4)).map(without_doubling);
        agent.or_else(|| strip(word, "ion", 4).filter(|rest| rest.ends_with(['s', 't'])))
    };
    let deed = || strip(word, "al", 4).filter(|rest| rest.ends_with(['v', 'w', 's']));
    verb.or_else(noun).or_else(deed).unwrap_or(word)
}

/// `plann` becomes `plan`; `call`, `pass` and `buzz` are unchanged.
fn without_doubling(word: &str) -> &str {
    match word.as_bytes() {
        [.., before, last] if before == last && !b"aeiolsz".contains(last) && word.len() > LETTERS_MIN => {
            word.get(..word.len() - 1).unwrap_or(word)
        }
        _ => word,
    }
}
