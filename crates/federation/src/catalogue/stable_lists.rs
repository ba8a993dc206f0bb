//! Keeps the lists of a backend as they were where only their order or their spelling differs. Clients cache a prompt
//! by its bytes, and some servers write a list or a schema in another order each time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use serde_json::Value;
use vmcp_domain::{Inventory, OfferedPrompt, OfferedResource, OfferedTemplate, OfferedTool};
use vmcp_json::Members;

/// An item with the key under which its backend offers it.
trait Item: Clone {
    type Key: Clone + Eq + Hash;

    fn key(&self) -> Self::Key;
    fn definition(&self) -> &Arc<Members>;
}

macro_rules! item {
    ($kind:ty, $key:ident) => {
        impl Item for $kind {
            type Key = String;

            fn key(&self) -> String {
                self.$key.as_str().to_owned()
            }

            fn definition(&self) -> &Arc<Members> {
                &self.definition
            }
        }
    };
}

item!(OfferedTool, name);
item!(OfferedResource, uri);
item!(OfferedTemplate, template);
item!(OfferedPrompt, name);

/// The inventory `new` in the order of `earlier`, with the earlier form of each item that means the same. New items
/// follow in the order of the backend.
pub(crate) fn stabilise(mut new: Inventory, earlier: &Inventory) -> Inventory {
    new.tools = stable_list(new.tools, &earlier.tools);
    new.resources = stable_list(new.resources, &earlier.resources);
    new.templates = stable_list(new.templates, &earlier.templates);
    new.prompts = stable_list(new.prompts, &earlier.prompts);
    new
}

fn stable_list<T: Item>(new: Vec<T>, earlier: &[T]) -> Vec<T> {
    let places: HashMap<T::Key, usize> =
        earlier.iter().enumerate().map(|(place, item)| (item.key(), place)).collect();
    // A backend may list a key twice. Such a list stays as it is.
    if places.len() != earlier.len() {
        return new;
    }
    let mut placed: Vec<(usize, T)> = new
        .into_iter()
        .enumerate()
        .map(|(index, item)| match places.get(&item.key()) {
            Some(&place) => {
                let known = earlier.get(place).filter(|known| is_same(known.definition(), item.definition()));
                (place, known.cloned().unwrap_or(item))
            }
            None => (earlier.len() + index, item),
        })
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, item)| item).collect()
}

/// True for definitions that differ in the order of members or in spelling only.
fn is_same(one: &Members, other: &Members) -> bool {
    let value = |members: &Members| members.to_json().decode::<Value>().ok();
    // `Value` compares objects without regard to the order of their members.
    one == other || value(one).is_some_and(|one| Some(one) == value(other))
}

#[cfg(test)]
mod tests {
    use vmcp_domain::ToolHints;
    use vmcp_json::Json;

    use super::*;

    fn inventory(tools: &[&str]) -> Inventory {
        let tool = |text: &&str| {
            let definition = Json::parse((*text).to_owned()).unwrap().members().unwrap();
            OfferedTool {
                name: definition.get("name").unwrap().decode_string().unwrap().as_str().into(),
                description: None,
                hints: ToolHints::default(),
                definition: Arc::new(definition),
            }
        };
        Inventory { tools: tools.iter().map(tool).collect(), ..Inventory::default() }
    }

    fn texts(inventory: &Inventory) -> Vec<String> {
        inventory.tools.iter().map(|tool| tool.definition.to_json().as_str().to_owned()).collect()
    }

    #[test]
    fn another_order_is_no_change() {
        let earlier =
            inventory(&[r#"{"name":"a","x":{"p":1,"q":[2]}}"#, r#"{"name":"b"}"#, r#"{"name":"c"}"#]);
        let shuffled =
            inventory(&[r#"{"name":"c"}"#, r#"{"x":{"q":[2],"p":1},"name":"a"}"#, r#"{"name":"b"}"#]);
        assert_eq!(stabilise(shuffled, &earlier), earlier);
    }

    #[test]
    fn changes_stay_at_their_place_and_new_items_follow() {
        let earlier = inventory(&[r#"{"name":"a"}"#, r#"{"name":"b"}"#, r#"{"name":"c"}"#]);
        let new =
            inventory(&[r#"{"name":"d"}"#, r#"{"name":"c"}"#, r#"{"name":"a","x":1}"#, r#"{"name":"e"}"#]);
        let expected = [r#"{"name":"a","x":1}"#, r#"{"name":"c"}"#, r#"{"name":"d"}"#, r#"{"name":"e"}"#];
        assert_eq!(texts(&stabilise(new, &earlier)), expected);
    }

    #[test]
    fn numbers_that_differ_are_a_change() {
        let earlier = inventory(&[r#"{"name":"a","x":9007199254740993}"#]);
        for other in
            [r#"{"name":"a","x":9007199254740992}"#, r#"{"name":"a","x":1.0}"#, r#"{"name":"a","x":[]}"#]
        {
            let new = inventory(&[other]);
            assert_eq!(texts(&stabilise(new.clone(), &earlier)), texts(&new), "{other}");
        }
    }
}
