//! The members of what is listed, and the form that the strictest reader demands of each.
//! Sources: the schemas of 2025-11-25 and 2026-07-28; the readers of the SDKs as `reader_rules.txt` has them.

/// The form that a member must have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Text,
    /// A text that is more than white space.
    Name,
    /// A point in time with its zone (RFC 3339).
    Time,
    Flag,
    /// A number from 0 to 1.
    Share,
    /// A whole number of 64 bits.
    Whole,
    Object,
    /// A JSON Schema whose type is `object`.
    ObjectSchema,
    /// An array; elements of another form are left out.
    List(&'static [Rule]),
    /// An object with these members.
    Record(&'static [Rule]),
    /// An array of texts.
    Texts,
    /// An array of these texts.
    OneOfTexts(&'static [&'static str]),
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

/// A member, its form, and whether it must be there.
pub(super) type Rule = (&'static str, Form, bool);

pub(super) const ICON: &[Rule] = &[
    ("src", Form::Name, true),
    ("mimeType", Form::Text, false),
    ("sizes", Form::Texts, false),
    ("theme", Form::OneOf(&["light", "dark"]), false),
];
pub(super) const TOOL_ANNOTATIONS: &[Rule] = &[
    ("title", Form::Text, false),
    ("readOnlyHint", Form::Flag, false),
    ("destructiveHint", Form::Flag, false),
    ("idempotentHint", Form::Flag, false),
    ("openWorldHint", Form::Flag, false),
];
pub(super) const ANNOTATIONS: &[Rule] = &[
    ("audience", Form::OneOfTexts(&["user", "assistant"]), false),
    ("priority", Form::Share, false),
    ("lastModified", Form::Time, false),
];
pub(super) const EXECUTION: &[Rule] =
    &[("taskSupport", Form::OneOf(&["forbidden", "optional", "required"]), false)];
pub(super) const ARGUMENT: &[Rule] = &[
    ("name", Form::Name, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("required", Form::Flag, false),
];

/// The members of a tool but for its output schema.
pub(super) const TOOL: &[Rule] = &[
    ("name", Form::Name, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("inputSchema", Form::ObjectSchema, true),
    ("annotations", Form::Record(TOOL_ANNOTATIONS), false),
    ("execution", Form::Record(EXECUTION), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];
/// With sessions structured results are objects; in 2026-07-28 they are anything.
pub(super) const SESSION_OUTPUT: &[Rule] = &[("outputSchema", Form::ObjectSchema, false)];
pub(super) const OUTPUT: &[Rule] = &[("outputSchema", Form::Object, false)];
pub(super) const PROMPT: &[Rule] = &[
    ("name", Form::Name, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("arguments", Form::List(ARGUMENT), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];
pub(super) const RESOURCE: &[Rule] = &[
    ("uri", Form::Name, true),
    ("name", Form::Name, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("mimeType", Form::Text, false),
    ("size", Form::Whole, false),
    ("annotations", Form::Record(ANNOTATIONS), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];
pub(super) const TEMPLATE: &[Rule] = &[
    ("uriTemplate", Form::Name, true),
    ("name", Form::Name, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("mimeType", Form::Text, false),
    ("annotations", Form::Record(ANNOTATIONS), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];
