//! `parallel`: the calls of several functions at once.

use std::collections::HashMap;

use starlark::eval::Evaluator;
use starlark::values::Value;
use starlark::values::list::{AllocList, ListRef};

use super::host::{Replay, StarlarkHost, error};
use crate::message::Outcome;

/// A function that runs beside others.
struct Task<'v> {
    function: Value<'v>,
    /// The answers of its calls so far.
    answers: Vec<(u64, Outcome)>,
    /// Its value or its error, when it has ended.
    end: Option<Result<Value<'v>, String>>,
    printed: Vec<String>,
}

/// The values of functions without arguments, in their order. All run to their end, also if one fails.
pub(super) fn run<'v>(
    host: &StarlarkHost,
    positions: &[Value<'v>],
    evaluator: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Value<'v>> {
    let [list] = positions else {
        return Err(error(format!("parallel: got {} arguments, want 1", positions.len())));
    };
    let Some(functions) = ListRef::from_value(*list) else {
        return Err(error(format!("parallel: for parameter 1: got {}, want list", list.get_type())));
    };
    let functions: Vec<Value<'v>> = functions.iter().collect();
    // The functions of a function that runs again are a part of it.
    let ends = if host.replay.borrow().is_some() || !host.is_repeatable {
        run_in_turn(host, functions, evaluator)?
    } else {
        run_at_once(host, functions, evaluator)?
    };
    let mut values = Vec::with_capacity(ends.len());
    for (index, end) in ends.into_iter().enumerate() {
        values.push(end.map_err(|message| error(format!("parallel: task {index} failed: {message}")))?);
    }
    Ok(evaluator.heap().alloc(AllocList(values)))
}

fn call<'v>(
    index: usize,
    function: Value<'v>,
    evaluator: &mut Evaluator<'v, '_, '_>,
) -> Result<Value<'v>, String> {
    if function.get_type() != "function" {
        let kind = function.get_type();
        return Err(format!("parallel: element {index} is not callable (got {kind})"));
    }
    evaluator.eval_function(function, &[], &[]).map_err(|error| error.without_diagnostic().to_string())
}

fn run_in_turn<'v>(
    host: &StarlarkHost,
    functions: Vec<Value<'v>>,
    evaluator: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Vec<Result<Value<'v>, String>>> {
    let mut ends = Vec::with_capacity(functions.len());
    for (index, function) in functions.into_iter().enumerate() {
        ends.push(call(index, function, evaluator));
        // The function around it waits for a call, and runs again.
        if host.replay.borrow().as_ref().is_some_and(|replay| replay.next.is_some()) {
            return Err(error("the answer of a call is not known yet"));
        }
    }
    Ok(ends)
}

fn run_at_once<'v>(
    host: &StarlarkHost,
    functions: Vec<Value<'v>>,
    evaluator: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Vec<Result<Value<'v>, String>>> {
    let task = |function| Task { function, answers: Vec::new(), end: None, printed: Vec::new() };
    let mut tasks: Vec<Task<'v>> = functions.into_iter().map(task).collect();
    let mut ready: Vec<usize> = (0..tasks.len()).rev().collect();
    let mut waiting: HashMap<u64, usize> = HashMap::new();
    loop {
        while let Some(index) = ready.pop() {
            if let Some(id) = step(host, index, &mut tasks[index], evaluator)? {
                waiting.insert(id, index);
            }
        }
        if waiting.is_empty() {
            break;
        }
        let (id, outcome) = host.receive()?;
        if let Some(index) = waiting.remove(&id) {
            tasks[index].answers.push((id, outcome));
            ready.push(index);
        }
    }
    for line in tasks.iter().flat_map(|task| &task.printed) {
        host.print(line)?;
    }
    let ends = tasks.into_iter().map(|task| task.end.unwrap_or_else(|| Err("did not end".to_owned())));
    Ok(ends.collect())
}

/// Runs a task to its end, or to its next call, which is sent. Returns the identifier of the request.
fn step<'v>(
    host: &StarlarkHost,
    index: usize,
    task: &mut Task<'v>,
    evaluator: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Option<u64>> {
    let answers = std::mem::take(&mut task.answers);
    *host.replay.borrow_mut() = Some(Replay { answers, ..Replay::default() });
    let end = call(index, task.function, evaluator);
    let Some(replay) = host.replay.borrow_mut().take() else {
        return Err(error("a function of parallel was lost"));
    };
    task.answers = replay.answers;
    match replay.next {
        Some(request) => host.send(request).map(Some),
        None => {
            (task.end, task.printed) = (Some(end), replay.printed);
            Ok(None)
        }
    }
}
