/**
 * Pure functions on distances and embeddings of any origin: nothing here needs a model, a device or a runtime.
 * Squared L2 is the only distance; a pair is accepted when its distance <= the threshold.
 */
export { FaceNetError, type FaceNetErrorCode } from './errors.ts';
export { type ClusterOptions, clusterDistances, type Clustering, clusterVectors, linkageTree } from './faces/clustering.ts';
export { distanceMatrix, type DistanceRows, setDistance, squaredDistance, type VectorSet } from './faces/distance.ts';
export { type AllPairsEvaluation, type AllPairsOptions, defaultFars, evaluateAllPairs } from './faces/evaluation/all-pairs.ts';
export { type BootstrapIntervals, type BootstrapOptions, bootstrapRates, type IdentifiedPairs, identifiedPairs } from './faces/evaluation/bootstrap.ts';
export { type BCubed, bCubed, normalisedMutualInformation } from './faces/evaluation/clusters.ts';
export { bestThreshold, foldAccuracy, type FoldEvaluation, type FoldPair, type FoldResult } from './faces/evaluation/folds.ts';
export { type GroupedPair, type GroupReport, groupReports } from './faces/evaluation/groups.ts';
export { evaluatePairs, type PairEvaluation, type PairEvaluationOptions, type ScoredPair } from './faces/evaluation/pairs.ts';
export { type ListedPair, type PairList, readLfwPairs, readPairs, readPairsCsv } from './faces/evaluation/pairs-file.ts';
export {
  areaUnderRoc, type CurvePoint, detCurve, type DetPoint, equalErrorRate, falseAcceptRate, pairDistances, type PairDistances, type RatesAtFar, rocCurve, valAtFar,
  validationRate,
} from './faces/evaluation/rates.ts';
export { splitEvaluation, type SplitEvaluation, type SplitOptions } from './faces/evaluation/splits.ts';
export { clopperPearson, type Interval, summarise, type Summary, wilson } from './faces/evaluation/statistics.ts';
export { calibrate, type CalibrateOptions, type Decide, decide, type OperatingPoint, pointFor, type Verification } from './faces/operating-point.ts';
