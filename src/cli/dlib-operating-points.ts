import calibration from '../io/dlib-operating-points.json' with { type: 'json' };
import type { StoredOperatingPoint } from '../io/model-file.ts';

/** Thresholds of dlib-resnet on crops of its own template, fitted on LFW by bench/lfw.ts. */
export function dlibOperatingPoints(): StoredOperatingPoint[] {
  return calibration.points.map((point) => {
    const [low = 0, high = 1] = point.farInterval;
    return { ...point, farInterval: [low, high] as const };
  });
}
