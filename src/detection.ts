/**
 * What goes with a detector, as pure functions: quality of a face, faces as other programs print them, landmark orders, alignment templates and crops
 * with margins. Nothing here needs a model, a device or a runtime; `FaceDetector` itself is in the main entry.
 */
export { FaceNetError, type FaceNetErrorCode } from './errors.ts';
export type { AffineMap, Point } from './faces/affine-map.ts';
export { type Alignment, type AlignOptions, alignFace, centreCrop, cropCorners } from './faces/alignment.ts';
export { type AlignmentTemplate, type AlignmentTemplateName, alignmentTemplate } from './faces/alignment-templates.ts';
export type { DetectedFace } from './faces/detection/detection.ts';
export { type ForeignFace, type ForeignProgram, faceFrom } from './faces/foreign-faces.ts';
export { fiveOfSixtyEight, type LandmarkOrder, type Landmarks, landmarksFrom } from './faces/landmarks.ts';
export { type Box, type MarginCrop, type MarginUnit, marginCrop, marginUnits } from './faces/margin-crop.ts';
export type { Pixels } from './faces/preprocessing.ts';
export { type FaceQuality, facePose, faceQuality, type Pose } from './faces/quality.ts';
