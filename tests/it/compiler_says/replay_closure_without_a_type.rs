//! A closure for `replay_with` that does not say of what type the request is.

use buttress::Retry;

fn stack() -> Result<(), buttress::BoxError> {
    let retry = Retry::builder("orders").build()?;
    #[cfg(not(feature = "remedy"))]
    let _layer = retry.layer().replay_with(|request| Some(request.clone()));
    #[cfg(feature = "remedy")]
    let _layer = retry.layer().replay_with(|request: &String| Some(request.clone()));
    Ok(())
}

fn main() {
    let _ = stack();
}
