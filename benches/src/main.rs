//! Every layer beside the bare service and the peers.
mod measure;
mod peers;
mod services;
fn main() {
    let rt = services::runtime();
    let mut bare = services::drive(&rt, services::Echo);
    for (n, mut d) in [("retry", peers::tower_retry(&rt)), ("tr breaker", peers::resilience_breaker_count(&rt)), ("tr time", peers::resilience_breaker_time(&rt)),("tr stack", peers::resilience_stack(&rt)),("sb b", peers::seatbelt_breaker(&rt)), ("sb stack", peers::seatbelt_stack(&rt)), ("reclose", peers::recloser(&rt))] {
        println!("{n} {:?}", measure::side_by_side(&mut bare, &mut d));
    }
}
