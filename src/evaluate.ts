/**
 * Pure functions on distances and embeddings of any origin: nothing here needs a model, a device or a runtime.
 * Squared L2 is the only distance; a pair is accepted when its distance <= the threshold.
 */
export { FaceNetError, type FaceNetErrorCode } from './errors.ts';
export {
  type Clustering,
  type ClusterOptions,
  clusterDistances,
  clusterVectors,
  linkageTree,
} from './faces/clustering.ts';
export { type DistanceRows, distanceMatrix, setDistance, squaredDistance, type VectorSet } from './faces/distance.ts';
export {
  type AllPairsEvaluation,
  type AllPairsOptions,
  defaultFars,
  evaluateAllPairs,
} from './faces/evaluation/all-pairs.ts';
export {
  type BootstrapIntervals,
  type BootstrapOptions,
  bootstrapRates,
  type IdentifiedPairs,
  identifiedPairs,
} from './faces/evaluation/bootstrap.ts';
export { type CalibrateOptions, calibrate } from './faces/evaluation/calibration.ts';
export { type BCubed, bCubed, normalisedMutualInformation } from './faces/evaluation/clusters.ts';
export {
  bestThreshold,
  type FoldEvaluation,
  type FoldPair,
  type FoldResult,
  foldAccuracy,
} from './faces/evaluation/folds.ts';
export { type GroupedPair, type GroupReport, groupReports } from './faces/evaluation/groups.ts';
export {
  evaluatePairs,
  type PairEvaluation,
  type PairEvaluationOptions,
  type ScoredPair,
} from './faces/evaluation/pairs.ts';
export {
  type ListedPair,
  type PairList,
  readLfwPairs,
  readPairs,
  readPairsCsv,
} from './faces/evaluation/pairs-file.ts';
export {
  areaUnderRoc,
  type CurvePoint,
  type DetPoint,
  detCurve,
  equalErrorRate,
  falseAcceptRate,
  type PairDistances,
  pairDistances,
  type RatesAtFar,
  rocCurve,
  valAtFar,
  validationRate,
} from './faces/evaluation/rates.ts';
export { type SplitEvaluation, type SplitOptions, splitEvaluation } from './faces/evaluation/splits.ts';
export { clopperPearson, type Interval, type Summary, summarise, wilson } from './faces/evaluation/statistics.ts';
export { evaluateVersions, type VersionsEvaluation } from './faces/evaluation/versions.ts';
export { dequantise, type Int8Loss, type Int8Vectors, int8Loss, quantise } from './faces/gallery/int8.ts';
export {
  type Decide,
  decide,
  type OperatingPoint,
  pointFor,
  type Verification,
} from './faces/operating-point.ts';
