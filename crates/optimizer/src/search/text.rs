//! Splits texts into words for searching. It handles prose and identifiers of every spelling, folds case and
//! accents, splits scripts without spaces into pairs of characters, and knows the stop words.
//!
//! Which words a tool has is left to [`crate::search::document`], and their weights to [`crate::search::lexical`].

mod stem;
mod synonyms;

pub(crate) use stem::append_stem;
pub(crate) use synonyms::each_synonym;

/// Maximum length of a text that is read, in bytes; the purpose of a tool is described at the beginning.
pub(crate) const TEXT_BYTES_MAX: usize = 8 * 1024;
/// A longer word, in bytes, is encoded data and is ignored.
const WORD_BYTES_MAX: usize = 48;
/// An identifier with more parts than this is indexed by its parts only.
const JOINED_PARTS_MAX: usize = 3;

/// The longest prefix of `text` that has at most `bytes_max` bytes.
pub(crate) fn truncate(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

/// Calls `each` with every word of the first [`TEXT_BYTES_MAX`] bytes of `text`, in order: lower case,
/// without accents, not stemmed.
///
/// A word with parts marked by letter case (`getUser`, `HTTPServer`, `GitHub`) yields its parts, and the
/// joined word if it has few parts.
pub(crate) fn each_word(text: &str, each: impl FnMut(&str)) {
    each_word_of(text, true, each);
}

/// As [`each_word`], but a word with parts marked by letter case yields its parts only, as a person would say
/// the name.
pub(crate) fn each_name_word(name: &str, each: impl FnMut(&str)) {
    each_word_of(name, false, each);
}

fn each_word_of(text: &str, joined: bool, mut each: impl FnMut(&str)) {
    let text = truncate(text, TEXT_BYTES_MAX);
    let mut word = String::new();
    let mut run: Option<(usize, Script)> = None;
    let ends = text.char_indices().map(|(at, c)| (at, Script::of(c))).chain([(text.len(), Script::None)]);
    for (at, script) in ends {
        if let Some((start, kind)) = run
            && kind != script
        {
            let run = text.get(start..at).unwrap_or_default();
            match kind {
                Script::Spaced => each_part(run, joined, &mut word, &mut each),
                Script::Unspaced => each_pair(run, &mut each),
                Script::None => {}
            }
        }
        if run.is_none_or(|(_, kind)| kind != script) {
            run = Some((at, script));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    /// A script that separates words by spaces.
    Spaced,
    /// A script without spaces between words.
    Unspaced,
    /// Not part of a word.
    None,
}

impl Script {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => Self::Spaced,
            '\0'..='\u{7f}' => Self::None,
            // Thai, Lao, Myanmar, Khmer, kana, Han, Hangul.
            '\u{e00}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{3041}'..='\u{30fa}'
            | '\u{30fc}'..='\u{30ff}'
            | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7af}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{323af}' => Self::Unspaced,
            _ if c.is_alphanumeric() => Self::Spaced,
            _ => Self::None,
        }
    }
}

/// Calls `each` with every two adjacent characters of a run, or with its only character.
fn each_pair(run: &str, each: &mut impl FnMut(&str)) {
    let mut starts = run.char_indices().map(|(at, _)| at).chain([run.len()]);
    let (mut first, mut second) = (starts.next().unwrap_or(0), starts.next().unwrap_or(run.len()));
    let mut third = starts.next();
    loop {
        each(run.get(first..third.unwrap_or(second)).unwrap_or_default());
        let Some(next) = third else { return };
        (first, second, third) = (second, next, starts.next());
        if third.is_none() {
            return;
        }
    }
}

/// Calls `each` with the parts of a run of letters and digits, and with the run itself if it has few parts.
fn each_part(run: &str, joined: bool, word: &mut String, each: &mut impl FnMut(&str)) {
    let mut parts = 0;
    let mut start = 0;
    for end in part_ends(run) {
        let part = run.get(start..end).unwrap_or_default();
        let whole = start == 0 && end == run.len();
        start = end;
        parts += 1;
        // The single letters of `eBay` and `OAuth` have no meaning alone.
        if (whole || !joined || part.len() > 1) && fold_case(part, word) {
            each(word);
        }
    }
    if joined && (2..=JOINED_PARTS_MAX).contains(&parts) && fold_case(run, word) {
        each(word);
    }
}

/// The ends of the parts of a run: before a capital after a small letter or digit, and before the last of
/// several capitals when at least two small letters follow (`HTTP|Server`, but `PDFs`, `IPv6`).
fn part_ends(run: &str) -> impl Iterator<Item = usize> {
    let mut before = ' ';
    let inner = run.char_indices().filter_map(move |(at, c)| {
        let rest = run.get(at + c.len_utf8()..).unwrap_or_default();
        let small_follow = || rest.chars().take_while(|c| c.is_lowercase()).take(2).count() == 2;
        let begins = at > 0
            && c.is_uppercase()
            && (before.is_lowercase() || before.is_numeric() || (before.is_uppercase() && small_follow()));
        before = c;
        begins.then_some(at)
    });
    inner.chain([run.len()])
}

/// Writes the case-folded form of `part` into `word`; false if the part is too long to be a word.
fn fold_case(part: &str, word: &mut String) -> bool {
    word.clear();
    if part.len() > WORD_BYTES_MAX {
        return false;
    }
    if part.is_ascii() {
        word.extend(part.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
    } else {
        word.extend(part.chars().flat_map(char::to_lowercase).map(without_accent));
    }
    true
}

/// The base letter that people type instead of an accented Latin letter.
fn without_accent(c: char) -> char {
    match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => 'e',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => 'g',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => 'i',
        'ĺ' | 'ļ' | 'ľ' | 'ł' => 'l',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => 'o',
        'ŕ' | 'ŗ' | 'ř' => 'r',
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => 's',
        'ţ' | 'ť' | 'ț' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        _ => c,
    }
}

/// True for a word that does not help to identify a tool: a number is a value, and words such as `please`
/// occur in any query.
pub(crate) fn is_stop_word(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
        || word.len() <= STOP_WORD_BYTES_MAX && STOP_WORDS.binary_search(&word).is_ok()
}

/// The length of the longest of [`STOP_WORDS`], in bytes.
const STOP_WORD_BYTES_MAX: usize = 7;

/// Function words of English and the words of requests, sorted. Words that also name tools (`get`, `find`,
/// `list`) are no stop words: their frequency in the catalogue determines their weight.
const STOP_WORDS: [&str; 138] = [
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "being", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "don",
    "each", "else", "etc", "every", "for", "from", "further", "given", "had", "has", "have", "having", "he",
    "help", "her", "here", "hers", "hey", "hi", "him", "his", "how", "i", "if", "im", "in", "into", "is",
    "it", "its", "just", "know", "let", "like", "ll", "looking", "may", "me", "might", "more", "most",
    "must", "my", "need", "no", "not", "now", "of", "off", "on", "one", "or", "other", "our", "out", "over",
    "own", "per", "please", "re", "s", "same", "shall", "she", "should", "so", "some", "such", "t", "tell",
    "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through",
    "to", "too", "up", "us", "use", "using", "ve", "very", "via", "want", "was", "we", "were", "what",
    "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "wish", "with", "within",
    "would", "you", "your",
];

#[cfg(test)]
mod tests;
