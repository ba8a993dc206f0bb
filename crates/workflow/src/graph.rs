//! The order of the steps: what `dependsOn` says, and what the templates read.

use std::sync::Arc;

use vmcp_template::{DataPath, Segment, Template};

use crate::definition::{Action, Step};

/// Completes the dependencies of each step by the steps that its templates read.
///
/// # Errors
/// The id of a step in a cycle.
pub(crate) fn order(steps: &mut [Option<Step>]) -> Result<(), Arc<str>> {
    let ids: Vec<Option<Arc<str>>> =
        steps.iter().map(|step| step.as_ref().map(|step| step.id.clone())).collect();
    let mut reads_unknown = Vec::new();
    for (own, step) in steps.iter_mut().enumerate() {
        let Some(step) = step else { continue };
        for read in read_steps(step) {
            match read {
                None => reads_unknown.push(own),
                Some(id) => step.after.extend(ids.iter().position(|known| known.as_deref() == Some(&*id))),
            }
        }
    }
    // A step whose reads are not known waits for the steps before it in the file that do not wait for it.
    for own in reads_unknown {
        let before: Vec<usize> = (0..own).filter(|other| !waits_for(steps, *other, own)).collect();
        if let Some(Some(step)) = steps.get_mut(own) {
            step.after.extend(before);
        }
    }
    for step in steps.iter_mut().flatten() {
        step.after.sort_unstable();
        step.after.dedup();
    }
    let after: Vec<&[usize]> =
        steps.iter().map(|step| step.as_ref().map_or(&[][..], |step| &step.after)).collect();
    match cycle(&after) {
        Some(index) => Err(ids.get(index).cloned().flatten().unwrap_or_default()),
        None => Ok(()),
    }
}

/// Whether a step waits for another one, directly or through others.
fn waits_for(steps: &[Option<Step>], step: usize, other: usize) -> bool {
    let (mut seen, mut left) = (vec![false; steps.len()], vec![step]);
    while let Some(index) = left.pop() {
        let (Some(Some(step)), Some(seen)) = (steps.get(index), seen.get_mut(index)) else { continue };
        if step.after.contains(&other) {
            return true;
        }
        if !std::mem::replace(seen, true) {
            left.extend(&step.after);
        }
    }
    false
}

/// The ids of the steps that the templates of a step read. `None` for steps that are known only when it runs.
fn read_steps(step: &Step) -> Vec<Option<String>> {
    let mut paths: Vec<DataPath> = Vec::new();
    let mut add = |template: Option<&Template>| {
        paths.extend(template.into_iter().flat_map(Template::data_paths));
    };
    add(step.condition.as_ref().map(|condition| &condition.template));
    match &step.action {
        Action::Call(_) => {}
        Action::Ask(question) => add(Some(&question.message)),
        Action::ForEach(for_each) => {
            add(Some(&for_each.collection));
            add(for_each.condition.as_ref().map(|condition| &condition.template));
        }
    }
    if let Some(arguments) = step.call().and_then(|call| call.arguments.as_ref()) {
        let mut found = Vec::new();
        arguments.data_paths("", &mut found);
        paths.extend(found.into_iter().map(|(_, path)| path));
    }
    let ids = paths.into_iter().filter_map(|one| match one.path.as_slice() {
        [Segment::Member(root), Segment::Member(id), ..] if root == "steps" => Some(Some(id.clone())),
        [Segment::Member(root), ..] if root == "steps" => Some(None),
        [Segment::Computed, ..] | [] => Some(None),
        [Segment::Member(_), ..] => None,
    });
    // A step that reads itself reads nothing.
    ids.filter(|id| id.as_deref() != Some(&*step.id)).collect()
}

/// A step that waits for itself, directly or through others. `after` has the steps before each step.
fn cycle(after: &[&[usize]]) -> Option<usize> {
    let mut waiting: Vec<usize> = after.iter().map(|before| before.len()).collect();
    let mut ready: Vec<usize> = (0..after.len()).filter(|index| waiting.get(*index) == Some(&0)).collect();
    let mut done = 0;
    while let Some(ended) = ready.pop() {
        done += 1;
        for (index, before) in after.iter().enumerate() {
            let count = before.iter().filter(|one| **one == ended).count();
            if let Some(left) = waiting.get_mut(index).filter(|_| count > 0) {
                *left -= count;
                if *left == 0 {
                    ready.push(index);
                }
            }
        }
    }
    if done == after.len() { None } else { waiting.iter().position(|left| *left > 0) }
}

#[cfg(test)]
mod tests {
    use super::cycle;
    use crate::definition::Workflow;
    use crate::source::{StepSource, WorkflowSource};

    #[test]
    fn a_step_that_reads_all_steps_waits_for_those_that_do_not_wait_for_it() {
        let step = |id: &str, after: &[&str], condition: &str| StepSource {
            id: id.to_owned(),
            tool: Some("t".to_owned()),
            depends_on: after.iter().map(|id| (*id).to_owned()).collect(),
            condition: Some(condition.to_owned()),
            ..StepSource::default()
        };
        let source = WorkflowSource {
            name: "w".to_owned(),
            description: Some("d".to_owned()),
            steps: vec![
                step("first", &[], "true"),
                step("last", &["middle"], "true"),
                step("middle", &["all"], "true"),
                step("all", &[], "{{ne (json .steps) \"{}\"}}"),
            ],
            ..WorkflowSource::default()
        };
        let (workflow, findings) = Workflow::check(&source);
        let steps = workflow.unwrap_or_else(|| panic!("{findings:?}")).steps;
        assert_eq!(steps.iter().map(|step| &*step.after).collect::<Vec<_>>(), [&[][..], &[2], &[3], &[0]]);
    }

    #[test]
    fn cycles_are_found() {
        assert_eq!(cycle(&[&[], &[0], &[0, 1]]), None);
        assert_eq!(cycle(&[&[0]]), Some(0));
        assert_eq!(cycle(&[&[], &[2], &[1]]), Some(1));
        assert_eq!(cycle(&[]), None);
    }
}
