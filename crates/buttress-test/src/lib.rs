//! A test kit for Tower middleware: contract probe, scripted service, recording observer, metrics probe
