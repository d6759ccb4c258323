export function makeClockVectors() { return {}; }
