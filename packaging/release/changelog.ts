/**
 * CHANGELOG.md in the manner of Keep a Changelog: a release turns what is unreleased into a section of its own.
 *
 * @module
 */

const UNRELEASED = "## Unreleased";

/** The text below a section's heading, up to the next section. */
function sectionBody(text: string, heading: string): string | undefined {
  const lines = text.split("\n");
  const start = lines.findIndex((line) => line === heading || line.startsWith(`${heading} `));
  if (start < 0) return undefined;
  const end = lines.findIndex((line, index) => index > start && line.startsWith("## "));
  return lines.slice(start + 1, end < 0 ? undefined : end).join("\n").trim();
}

/** What a release says of itself: the section of `version`, or what is unreleased where it has none yet. */
export function releaseNotes(text: string, version: string): string | undefined {
  return sectionBody(text, `## ${version}`) ?? sectionBody(text, UNRELEASED);
}

/**
 * The changelog with its unreleased section as that of `version`, and a new empty one above.
 *
 * @param date ISO 8601, `2026-11-27`
 */
export function cutChangelog(text: string, version: string, date: string): string {
  if (sectionBody(text, `## ${version}`) !== undefined) {
    throw new Error(`Cannot cut changelog: it has a section of ${version} already`);
  }
  const body = sectionBody(text, UNRELEASED);
  if (body === undefined) throw new Error(`Cannot cut changelog: it has no line "${UNRELEASED}"`);
  if (!/^- /m.test(body)) throw new Error("Cannot cut changelog: nothing is unreleased");
  return text.replace(`${UNRELEASED}\n`, () => `${UNRELEASED}\n\n## ${version} - ${date}\n`);
}
