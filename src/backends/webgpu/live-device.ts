import { Pipelines } from './pipelines.ts';

/** A GPU device and what was compiled for it. Backends use it one after the other: making one anew and compiling takes seconds. */
export class LiveDevice {
  readonly device: GPUDevice;
  readonly info: GPUAdapterInfo;
  /** Runs on the CPU: lavapipe, SwiftShader. */
  readonly software: boolean;
  /** Lets go of what adapters come from. */
  readonly release: () => void;
  readonly pipelines: Pipelines;
  /** It gave the answers that are known (known-answers.ts). */
  trusted = false;
  readonly #whenLost = new Set<(lost: GPUDeviceLostInfo) => void>();
  #lost: GPUDeviceLostInfo | undefined;

  constructor(device: GPUDevice, info: GPUAdapterInfo, software: boolean, release: () => void = () => {}) {
    this.device = device;
    this.info = info;
    this.software = software;
    this.release = release;
    this.pipelines = new Pipelines(device);
    // The promise lives as long as the device and may not keep all this alive; nor may it gather a handler for each wait.
    const self = new WeakRef(this);
    device.lost.then((lost) => {
      const live = self.deref();
      if (live) live.#lose(lost);
    });
  }

  get lost(): GPUDeviceLostInfo | undefined {
    return this.#lost;
  }

  /** Calls `listener` when the device is lost, at once where it is; until the function returned is called. */
  onLoss(listener: (lost: GPUDeviceLostInfo) => void): () => void {
    if (this.#lost) listener(this.#lost);
    else this.#whenLost.add(listener);
    return () => this.#whenLost.delete(listener);
  }

  #lose(lost: GPUDeviceLostInfo): void {
    this.#lost = lost;
    const listeners = [...this.#whenLost];
    this.#whenLost.clear();
    for (const listener of listeners) listener(lost);
  }
}
