// The line of a file that is loaded, at widths of a terminal.
#include "loraine/cli/transfers.h"

#include <gtest/gtest.h>

#include "loraine/cli/screen_width.h"

namespace loraine::transfers_test {
namespace {

TEST(Transfers, Line) {
  TransferState state{"model.safetensors", 50 << 20, 200 << 20, 10 << 20};
  EXPECT_EQ(transfer_line(state, 100), "  model.safetensors   25 %  50.0 MiB / 200.0 MiB  10.0 MiB/s  0:15 left");
  EXPECT_EQ(transfer_line(state, 50), "  model.safetensors   25 %  50.0 MiB / 200.0 MiB");
  state.finished = true;  // all of it is there
  EXPECT_EQ(transfer_line(state, 100), "  model.safetensors  100 %  200.0 MiB  10.0 MiB/s");
  state = {std::string(300, 'x') + "/data.json", 1, 3, 0};
  for (size_t width : {20, 40, 79}) EXPECT_LE(screen_width(transfer_line(state, width)), width);
  state = {"empty", 0, 0, 0, true};
  EXPECT_EQ(transfer_line(state, 79), "  empty  100 %  0 B");
}

}  // namespace
}  // namespace loraine::transfers_test
