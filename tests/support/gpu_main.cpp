// Runs the tests of GPU ops on a real card, or says what is missing for that and ends with 77, which counts as skipped.
#include <gtest/gtest.h>

#include <cstdio>

#include "loraine/core/error.h"
#include "loraine/core/gpu.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    const loraine::GpuCard& card = loraine::open_gpu();
    std::printf("%s, sm_%d\n", card.name.c_str(), card.capability);
  } catch (const loraine::Error& error) {
    std::printf("skipped: %s. %s\n", error.what(), error.hint.c_str());
    return 77;
  }
  return RUN_ALL_TESTS();
}
