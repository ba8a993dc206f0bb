//! The members of list items, and the form that the strictest client requires of each. Sources: the schemas
//! of 2025-11-25 and 2026-07-28, and the SDKs' parsers as listed in `reader_rules.txt`.

/// The form that a member must have.
#[derive(Clone, Copy, Debug)]
pub(super) enum MemberForm {
    Text,
    /// A text that is more than white space.
    Name,
    /// A point in time with its zone (RFC 3339).
    Time,
    Boolean,
    /// A number from 0 to 1.
    UnitInterval,
    /// A 64-bit integer.
    Integer,
    Object,
    /// A JSON Schema of type `object`.
    ObjectSchema,
    /// An array of objects with these members. Elements of another form are removed. Without rules the
    /// elements are not checked.
    List(&'static [Rule]),
    /// An object with these members.
    Record(&'static [Rule]),
    /// An array of texts.
    Texts,
    /// A non-empty array with elements of these texts only.
    OneOfTexts(&'static [&'static str]),
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

/// A member's name, its form, and whether it is required.
pub(super) type Rule = (&'static str, MemberForm, bool);

pub(super) const ICON: &[Rule] = &[
    ("src", MemberForm::Name, true),
    ("mimeType", MemberForm::Text, false),
    ("sizes", MemberForm::Texts, false),
    ("theme", MemberForm::OneOf(&["light", "dark"]), false),
];
pub(super) const TOOL_ANNOTATIONS: &[Rule] = &[
    ("title", MemberForm::Text, false),
    ("readOnlyHint", MemberForm::Boolean, false),
    ("destructiveHint", MemberForm::Boolean, false),
    ("idempotentHint", MemberForm::Boolean, false),
    ("openWorldHint", MemberForm::Boolean, false),
];
pub(super) const ANNOTATIONS: &[Rule] = &[
    ("audience", MemberForm::OneOfTexts(&["user", "assistant"]), false),
    ("priority", MemberForm::UnitInterval, false),
    ("lastModified", MemberForm::Time, false),
];
pub(super) const EXECUTION: &[Rule] =
    &[("taskSupport", MemberForm::OneOf(&["forbidden", "optional", "required"]), false)];
pub(super) const ARGUMENT: &[Rule] = &[
    ("name", MemberForm::Name, true),
    ("title", MemberForm::Text, false),
    ("description", MemberForm::Text, false),
    ("required", MemberForm::Boolean, false),
];

/// The members of a tool without its output schema.
pub(super) const TOOL: &[Rule] = &[
    ("name", MemberForm::Name, true),
    ("title", MemberForm::Text, false),
    ("description", MemberForm::Text, false),
    ("inputSchema", MemberForm::ObjectSchema, true),
    ("annotations", MemberForm::Record(TOOL_ANNOTATIONS), false),
    ("execution", MemberForm::Record(EXECUTION), false),
    ("icons", MemberForm::List(ICON), false),
    ("_meta", MemberForm::Object, false),
];
/// With sessions, structured results are objects. In 2026-07-28 they may have any type.
pub(super) const SESSION_OUTPUT: &[Rule] = &[("outputSchema", MemberForm::ObjectSchema, false)];
pub(super) const OUTPUT: &[Rule] = &[("outputSchema", MemberForm::Object, false)];
pub(super) const PROMPT: &[Rule] = &[
    ("name", MemberForm::Name, true),
    ("title", MemberForm::Text, false),
    ("description", MemberForm::Text, false),
    ("arguments", MemberForm::List(ARGUMENT), false),
    ("icons", MemberForm::List(ICON), false),
    ("_meta", MemberForm::Object, false),
];
pub(super) const RESOURCE: &[Rule] = &[
    ("uri", MemberForm::Name, true),
    ("name", MemberForm::Name, true),
    ("title", MemberForm::Text, false),
    ("description", MemberForm::Text, false),
    ("mimeType", MemberForm::Text, false),
    ("size", MemberForm::Integer, false),
    ("annotations", MemberForm::Record(ANNOTATIONS), false),
    ("icons", MemberForm::List(ICON), false),
    ("_meta", MemberForm::Object, false),
];
pub(super) const TEMPLATE: &[Rule] = &[
    ("uriTemplate", MemberForm::Name, true),
    ("name", MemberForm::Name, true),
    ("title", MemberForm::Text, false),
    ("description", MemberForm::Text, false),
    ("mimeType", MemberForm::Text, false),
    ("annotations", MemberForm::Record(ANNOTATIONS), false),
    ("icons", MemberForm::List(ICON), false),
    ("_meta", MemberForm::Object, false),
];
