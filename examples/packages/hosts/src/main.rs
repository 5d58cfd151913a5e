mod redis;
fn main(){}
