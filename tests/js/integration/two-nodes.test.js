// The events of a band with its members on two nodes: band.test.js once more. All tests of the protocol
// run so with `./tools/test --only two-nodes`.
process.env.NODES = "2";
await import("./band.test.js");
