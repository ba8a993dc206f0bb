use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use vmcp_script_worker::encode_length;

use super::*;

const BOUNDS: ServeBounds =
    ServeBounds { parallel_calls_max: 3, calls_max: 5, result_bytes_max: 1000, log_bytes_max: 100 };

/// Answers calls after a second with their arguments, and counts those in flight.
#[derive(Default)]
struct SlowHost {
    in_flight: Mutex<(usize, usize)>,
    log: Mutex<Vec<String>>,
}

impl Host for SlowHost {
    fn answer(&self, _id: u64, request: Request) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let Request::Call { arguments, .. } = request else { return Outcome::Value(Json::null()) };
            {
                let mut in_flight = self.in_flight.lock().unwrap();
                in_flight.0 += 1;
                in_flight.1 = in_flight.1.max(in_flight.0);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.in_flight.lock().unwrap().0 -= 1;
            Outcome::Value(arguments)
        })
    }

    fn language(&self, _language: Language) {}

    fn log(&self, line: &str) {
        self.log.lock().unwrap().push(line.to_owned());
    }

    fn progress(&self, _message: &str, _done: Option<f64>, _total: Option<f64>) {}

    fn emit(&self, _item: Json) -> Result<(), String> {
        Err("emitted too much".to_owned())
    }
}

/// The other side of the pipes.
struct FakeWorker {
    input: DuplexStream,
    output: DuplexStream,
}

fn worker() -> (WorkerPipes, FakeWorker) {
    let ((near_in, far_in), (far_out, near_out)) = (duplex(1 << 16), duplex(1 << 16));
    (WorkerPipes::new(near_in, near_out), FakeWorker { input: far_in, output: far_out })
}

impl FakeWorker {
    async fn send(&mut self, message: &Value) {
        let frame = message.to_string();
        self.output.write_all(&encode_length(frame.as_bytes()).unwrap()).await.unwrap();
        self.output.write_all(frame.as_bytes()).await.unwrap();
    }

    async fn receive(&mut self) -> Value {
        let length = self.input.read_u32_le().await.unwrap();
        let mut frame = vec![0; length as usize];
        self.input.read_exact(&mut frame).await.unwrap();
        serde_json::from_slice(&frame).unwrap()
    }
}

fn call(id: u64) -> Value {
    json!({"request": {"id": id, "request": {"call": {"name": "t", "arguments": {"id": id}}}}})
}

async fn end_after(messages: &[Value]) -> ScriptEnd {
    let (mut pipes, mut worker) = worker();
    let host = SlowHost::default();
    let sent = async {
        for message in messages {
            worker.send(message).await;
        }
    };
    let served = async {
        let (end, ()) = tokio::join!(serve(&mut pipes, BOUNDS, &host), sent);
        end
    };
    tokio::time::timeout(Duration::from_secs(60), served).await.unwrap_or(ScriptEnd::Lost)
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered_and_never_more_than_allowed_are_in_flight() {
    let (mut pipes, mut worker) = worker();
    let host = SlowHost::default();
    let script = async {
        for id in 1..=5 {
            worker.send(&call(id)).await;
        }
        let mut answered = Vec::new();
        for _ in 0..5 {
            let answer = worker.receive().await;
            assert_eq!(answer["answer"]["id"], answer["answer"]["outcome"]["value"]["id"]);
            answered.push(answer["answer"]["id"].as_u64().unwrap());
        }
        answered.sort_unstable();
        assert_eq!(answered, [1, 2, 3, 4, 5]);
        worker.send(&json!({"log": {"text": "a line"}})).await;
        worker.send(&json!({"done": {"value": {"n": 12_345_678_901_234_567_890_u64}}})).await;
    };
    let (end, ()) = tokio::join!(serve(&mut pipes, BOUNDS, &host), script);
    assert!(
        matches!(&end, ScriptEnd::Value(value) if value.as_str() == r#"{"n":12345678901234567890}"#),
        "{end:?}"
    );
    assert_eq!(host.in_flight.lock().unwrap().1, 3);
    assert_eq!(*host.log.lock().unwrap(), ["a line"]);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_does_too_much_is_ended_with_the_bound() {
    let many: Vec<Value> = (1..=6).map(call).collect();
    let sleeps: Vec<Value> =
        (0..1001).map(|id| json!({"request": {"id": id, "request": {"sleep": {"ms": 1}}}})).collect();
    let progress = vec![json!({"progress": {"message": "x", "done": null, "total": null}}); 10_001];
    let long = json!({"done": {"value": "x".repeat(2000)}});
    for (messages, bound) in [
        (many, "made more than 5 calls"),
        (sleeps, "searched, asked and slept more than 1000 times"),
        (progress, "reported progress more than 10000 times"),
        (vec![long], "returned 2002 bytes; at most 1000 are passed on"),
        (vec![json!({"emit": {"item": {}}})], "emitted too much"),
    ] {
        let end = end_after(&messages).await;
        let ScriptEnd::Exceeded(text) = &end else { panic!("{bound}: {end:?}") };
        assert_eq!(*text, format!("the script {bound}"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_worker_sends_ends_the_run() {
    for message in [
        json!("ready"),
        json!({"unknown": {}}),
        json!(7),
        json!({"request": {"id": -1, "request": {"sleep": {"ms": 1}}}}),
        json!({"log": {"text": "x".repeat(200)}}),
    ] {
        let end = end_after(std::slice::from_ref(&message)).await;
        assert!(matches!(end, ScriptEnd::Lost), "{message}: {end:?}");
    }
    let (mut pipes, worker) = worker();
    drop(worker);
    assert!(matches!(serve(&mut pipes, BOUNDS, &SlowHost::default()).await, ScriptEnd::Lost));
}

#[tokio::test(start_paused = true)]
async fn large_arguments_wait_only_up_to_a_bound() {
    let bounds = ServeBounds { parallel_calls_max: 1, calls_max: 100, ..BOUNDS };
    let (mut pipes, mut worker) = worker();
    let host = SlowHost::default();
    let text = "x".repeat(4 << 20);
    let sent = async {
        for id in 1..=6 {
            let request = json!({"call": {"name": "t", "arguments": {"text": text}}});
            let frame = json!({"request": {"id": id, "request": request}}).to_string();
            let length = encode_length(frame.as_bytes()).unwrap();
            if worker.output.write_all(&length).await.is_err()
                || worker.output.write_all(frame.as_bytes()).await.is_err()
            {
                return;
            }
        }
    };
    let served = async {
        let end = serve(&mut pipes, bounds, &host).await;
        drop(pipes);
        end
    };
    let (end, ()) = tokio::join!(served, sent);
    let ScriptEnd::Exceeded(text) = end else { panic!("{end:?}") };
    assert_eq!(text, "the script made calls at once whose arguments are longer than 16 MiB");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// Neither random bytes nor random frames crash the gateway or keep it waiting after the worker has ended.
    #[test]
    fn any_bytes_end_the_run(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20), framed: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut pipes, mut worker) = worker();
            for chunk in chunks {
                if framed {
                    let length = encode_length(&chunk).unwrap();
                    worker.output.write_all(&length).await.unwrap();
                }
                worker.output.write_all(&chunk).await.unwrap();
            }
            drop(worker);
            let host = SlowHost::default();
            let end = tokio::time::timeout(Duration::from_secs(60), serve(&mut pipes, BOUNDS, &host));
            assert!(end.await.is_ok());
        });
    }
}
