//! Over the public facade, a module per scenario; and what holds the project together.

mod arrows;
mod axum_serve;
mod composition;
mod contract;
mod coverage;
mod first_outage;
mod fronts;
mod recipes;
mod six_layers;
mod soak;
