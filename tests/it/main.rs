//! Over the public facade, a module per scenario; and what holds the project together.

mod alike;
mod arrows;
mod axum_serve;
mod catalogue;
mod compiler_says;
mod composition;
mod contract;
mod contrib;
mod coverage;
mod didactic;
mod first_outage;
mod first_screen;
mod floors;
mod fluxus;
mod fronts;
mod functions;
mod hosts;
mod meter;
mod nested;
mod promql;
mod recipes;
mod registry;
mod settings;
mod six_layers;
mod soak;
mod sources;
