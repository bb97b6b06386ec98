import { FaceNetError } from '../errors.ts';
import { readWholeFile } from '../io/node/image-files.ts';
import type { TrainPhase } from '../node.ts';
import { phaseFields } from '../train/phases.ts';

/** Far more than any list of phases needs. */
const MAX_BYTES = 2 ** 20;

/**
 * Phases of a run from a JSON file: a list of objects with the fields of `TrainPhase`.
 * @throws FaceNetError 'input' for what is no such list, naming phase and field; numbers out of range are found when the run begins.
 */
export async function readPhases(path: string): Promise<TrainPhase[]> {
  const text = new TextDecoder().decode(await readWholeFile(path, path, MAX_BYTES));
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (cause) {
    throw new FaceNetError('input', `${path}: phases are a JSON list, got ${(cause as Error).message}.`, { cause });
  }
  if (!Array.isArray(list) || list.length === 0)
    throw new FaceNetError('input', `${path}: phases are a JSON list with at least one phase, got ${shown(list)}.`);
  return list.map((phase: unknown, index) => {
    const at = `${path}: phase ${index}`;
    const fields = fieldsOf(phase, at);
    for (const [name, value] of Object.entries(fields)) {
      const kind = (phaseFields as Readonly<Record<string, string>>)[name];
      if (kind === undefined)
        throw new FaceNetError(
          'input',
          `${at}: a field is one of ${Object.keys(phaseFields).join(', ')}, got ${name}.`,
        );
      checkField(kind, value, `${at}: ${name}`);
    }
    if (fields.steps === undefined) throw new FaceNetError('input', `${at}: steps must be given, got nothing.`);
    return fields as unknown as TrainPhase;
  });
}

function checkField(kind: string, value: unknown, at: string): void {
  switch (kind) {
    case 'loss':
      if (typeof value !== 'string') numbersOf(value, at);
      return;
    case 'offline':
      for (const name of Object.keys(numbersOf(value, at)))
        if (!['batches', 'every'].includes(name))
          throw new FaceNetError('input', `${at}: a field is one of batches, every, got ${name}.`);
      return;
    case 'curriculum':
      if (!Array.isArray(value) || value.length === 0)
        throw new FaceNetError('input', `${at}: a list of stages, got ${shown(value)}.`);
      value.forEach((stage, index) => {
        const { miner, margin, until, ...others } = fieldsOf(stage, `${at} ${index}`);
        const [strange] = Object.keys(others);
        if (strange !== undefined)
          throw new FaceNetError('input', `${at} ${index}: a field is one of miner, margin, until, got ${strange}.`);
        check(miner, 'string', `${at} ${index}: miner`);
        if (margin !== undefined) check(margin, 'number', `${at} ${index}: margin`);
        for (const name of until === undefined ? [] : Object.keys(numbersOf(until, `${at} ${index}: until`)))
          if (!['step', 'activeFraction'].includes(name))
            throw new FaceNetError('input', `${at} ${index}: until is step or activeFraction, got ${name}.`);
      });
      return;
    default:
      check(value, kind === 'text' ? 'string' : 'number', at);
  }
}

function check(value: unknown, type: 'string' | 'number', at: string): void {
  const given: string = typeof value;
  if (given !== type)
    throw new FaceNetError('input', `${at}: must be ${type === 'string' ? 'text' : 'a number'}, got ${shown(value)}.`);
}

function fieldsOf(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FaceNetError('input', `${at}: must be an object, got ${shown(value)}.`);
  return value as Record<string, unknown>;
}

function numbersOf(value: unknown, at: string): Record<string, unknown> {
  const fields = fieldsOf(value, at);
  for (const [name, number] of Object.entries(fields)) check(number, 'number', `${at}: ${name}`);
  return fields;
}

const shown = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 60);
