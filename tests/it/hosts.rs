//! A circuit for each host, in a list as any other breaker.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    BoxError, Breaker, Event, Retry, ServiceBuilderExt,
    breaker::{KeyedBreaker, State},
    http::{ByAuthority, HttpClassify},
    rejection,
};

use http::{Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

fn to(host: &str) -> Request<()> {
    Request::get(format!("http://{host}/orders")).body(()).unwrap()
}

/// One host is down.
async fn answer(request: Request<()>) -> Result<Response<&'static str>, std::io::Error> {
    let down = request.uri().host() == Some("down.example");
    Ok(Response::builder().status(if down { 503 } else { 200 }).body("").unwrap())
}

#[tokio::test(start_paused = true)]
async fn breaker_by_host_is_a_line_of_the_list_and_says_which_host_and_why() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let hosts: KeyedBreaker<String> = Breaker::keyed("hosts")
        .consecutive_failures(3)
        .on_event(move |event| {
            if let Event::Transition(change) = event {
                let error = change.get("error").and_then(|text| text.as_text());
                let why = (change.to, change.key.as_deref().map(str::to_owned), error.map(str::to_owned));
                heard.lock().unwrap().push(why);
            }
        })
        .build()
        .unwrap();
    let retry = Retry::builder("hosts").max_attempts(2).build().unwrap();
    let mut svc = ServiceBuilder::new()
        .retrying(retry.layer().classify(HttpClassify))
        .breaker(hosts.layer_key(ByAuthority).classify(HttpClassify))
        .lift_errors()
        .service(service_fn(answer));
    for _ in 0..2 {
        let _fails = svc.ready().await.unwrap().call(to("down.example")).await;
        svc.ready().await.unwrap().call(to("well.example")).await.unwrap();
    }
    assert_eq!(hosts.keys_in(State::Open), ["down.example"]);
    assert_eq!(hosts.get("down.example").unwrap().last_error().as_deref(), Some("503"));
    let refused = svc.ready().await.unwrap().call(to("DOWN.example")).await.unwrap_err();
    let refused = rejection(&*refused).unwrap();
    assert_eq!((refused.code().as_str(), refused.key()), ("CIRCUIT_OPEN", Some("down.example")));
    let expected = ("open", Some("down.example".to_owned()), Some("503".to_owned()));
    assert_eq!(*told.lock().unwrap(), [expected]);
}

// 429 with `Retry-After` keeps a circuit open for as long as it says, if that is set.
#[tokio::test(start_paused = true)]
async fn quota_that_is_used_up_keeps_the_circuit_open_for_as_long_as_the_answer_says() {
    let builder = Breaker::builder("quota").consecutive_failures(1).open_for(Duration::from_secs(1));
    let breaker = builder.retry_after_max(Duration::from_secs(60)).build().unwrap();
    let mut svc = ServiceBuilder::new().breaker(breaker.layer().classify(HttpClassify)).service(service_fn(
        |_: Request<()>| async {
            Ok::<_, BoxError>(Response::builder().status(429).header("retry-after", "30").body("").unwrap())
        },
    ));
    svc.ready().await.unwrap().call(to("a.example")).await.unwrap();
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(breaker.state(), State::Open);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
}
