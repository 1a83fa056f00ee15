/**
 * Graphs that resize `pixels` (1, 3, height, width) uint8 to `sizes`, four int64, by interpolation;
 * made by make_resize_graphs.py. In base64, so that no bundler or server has to know of them.
 */
export const RESIZE_GRAPHS = {
  bicubic:
    "CAg64QEKeQoGcGl4ZWxzCgAKAAoFc2l6ZXMSB3Jlc2l6ZWQiBlJlc2l6ZSoQCglhbnRpYWxpYXMYAaABAioXCg1j" +
    "dWJpY19jb2VmZl9hFQAAAL+gAQEqFgoPZXhjbHVkZV9vdXRzaWRlGAGgAQIqEAoEbW9kZSIFY3ViaWOgAQMSBnJl" +
    "c2l6ZVoiCgZwaXhlbHMSGAoWCAISEgoCCAEKAggDCgMSAWgKAxIBd1oTCgVzaXplcxIKCggIBxIECgIIBGIjCgdy" +
    "ZXNpemVkEhgKFggCEhIKAggBCgIIAwoDEgFICgMSAVdCBAoAEBI=",
  bilinear:
    "CAg6yQEKYQoGcGl4ZWxzCgAKAAoFc2l6ZXMSB3Jlc2l6ZWQiBlJlc2l6ZSoQCglhbnRpYWxpYXMYAaABAioWCg9l" +
    "eGNsdWRlX291dHNpZGUYAaABAioRCgRtb2RlIgZsaW5lYXKgAQMSBnJlc2l6ZVoiCgZwaXhlbHMSGAoWCAISEgoC" +
    "CAEKAggDCgMSAWgKAxIBd1oTCgVzaXplcxIKCggIBxIECgIIBGIjCgdyZXNpemVkEhgKFggCEhIKAggBCgIIAwoD" +
    "EgFICgMSAVdCBAoAEBI=",
};
