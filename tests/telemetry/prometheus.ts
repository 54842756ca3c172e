/** One sample of Prometheus' text format. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What a scrape says: samples, and the families that HELP and TYPE announce. */
export interface Scrape {
  readonly samples: readonly Sample[];
  readonly families: ReadonlyMap<string, { help?: string; type?: string }>;
}

/** Parses Prometheus' text format 0.0.4 strictly enough to fail on a malformed line. */
export function parsePrometheus(text: string): Scrape {
  const samples: Sample[] = [];
  const families = new Map<string, { help?: string; type?: string }>();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line);
    if (comment !== null) {
      const family = families.get(comment[2]) ?? {};
      family[comment[1] === "HELP" ? "help" : "type"] = comment[3];
      families.set(comment[2], family);
      continue;
    }
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (-?[\d.e+-]+|NaN|[+-]Inf)$/.exec(line);
    if (sample === null) throw new Error(`not a line of Prometheus' format: ${line}`);
    const labels: Record<string, string> = {};
    for (const [, name, value] of (sample[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)/g)) {
      labels[name] = value;
    }
    samples.push({ name: sample[1], labels, value: Number(sample[3].replace("Inf", "Infinity")) });
  }
  return { samples, families };
}

/** The value of the one sample with this name and these labels; 0 when there is none, as Prometheus would add it. */
export function sampleValue(scrape: Scrape, name: string, labels: Record<string, string> = {}): number {
  const found = scrape.samples.filter((sample) =>
    sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value)
  );
  if (found.length > 1) throw new Error(`${found.length} samples of ${name}`);
  return found[0]?.value ?? 0;
}
