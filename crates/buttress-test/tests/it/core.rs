//! The layers of core before the contract.

use std::io;

use buttress_core::{LiftErrorsLayer, ReadyInCallLayer, TypedErrorsLayer};
use buttress_test::contract::Contract;

#[test]
fn lifting_and_typing_errors_keep_the_contract() {
    Contract::new(LiftErrorsLayer::new).through().run().assert_clean();
    Contract::new(|| LiftErrorsLayer::new().strip()).through().run().assert_clean();
    let error = || io::Error::other("down");
    Contract::with(TypedErrorsLayer::new, || 1, || 2, error).through().run().assert_clean();
    Contract::with(LiftErrorsLayer::new, || 1, || 2, error).through().run().assert_clean();
}

#[test]
fn readiness_within_the_call_keeps_the_contract() {
    Contract::new(|| ReadyInCallLayer).owning().drops_finished().run().assert_clean();
}
