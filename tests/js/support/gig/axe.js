// Looks for faults of accessibility with axe-core, by the rules of WCAG 2.2 AA.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** Faults of a page at rest, as texts. The content security policy of the page allows no script of others, so Chromium alone can do it. */
export async function faults(page) {
  const session = await page.context().newCDPSession(page);
  try {
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
      expression: `(async () => {
        if (!window.axe) { ${source} }
        const { violations } = await axe.run(document, { runOnly: ${JSON.stringify(TAGS)}, resultTypes: ["violations"] });
        return violations.flatMap(({ id, impact, nodes }) => nodes.map(({ html, failureSummary }) =>
          \`\${id} (\${impact}): \${html.slice(0, 160)} \${failureSummary.replace(/\\s+/g, " ").slice(0, 300)}\`));
      })()`,
      awaitPromise: true,
      returnByValue: true,
      allowUnsafeEvalBlockedByCSP: true,
    });
    if (exceptionDetails) throw new Error(`axe: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  } finally {
    await session.detach();
  }
}
