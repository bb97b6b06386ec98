export declare const ADAPTERS: readonly string[];
export declare function driverManifest(adapter: string): string | null;
export declare function adapterPresent(adapter: string): boolean;
export declare function adapterEnvironment(adapter: string): Record<string, string>;
