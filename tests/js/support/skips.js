// Tests that cannot run here say so and are skipped, never passed. `tools/test` lists them at the end.

/** Skips a test for which a program is missing; the remedy brings it. By these words a skip fails CI. */
export const lacks = (t, program, remedy) => t.skip(`${program} is not here: ${remedy}`);

/** Skips a test that this machine does not allow: no package changes that. */
export const cannot = (t, why) => t.skip(`not possible here: ${why}`);
