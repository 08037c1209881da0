// Turns and their blocks.
#include "loraine/train/optimizers/blocks.h"

#include <algorithm>

#include "loraine/data/order/orders.h"

namespace loraine {

int64_t BlockOrder::turn(int64_t update) const {
  if (interval < 1) return 0;
  return update / interval - (interval == 1 ? 1 : 0);
}

int64_t BlockOrder::first_update(int64_t turn) const {
  if (turn == 0) return 1;
  return (turn + (interval == 1 ? 1 : 0)) * interval;
}

int64_t BlockOrder::block(int64_t turn) const {
  switch (mode) {
    case Mode::ascending: return (start + turn) % count;
    case Mode::descending: return ((start - turn) % count + count) % count;
    case Mode::fixed: return start;
    case Mode::random: break;
  }
  if (starts_given && turn == 0) return start;
  if (starts_given) --turn;
  const std::vector<int64_t> order = torch_randperm(count, seed + static_cast<uint64_t>(turn / count));
  return order[static_cast<size_t>(count - 1 - turn % count)];
}

}  // namespace loraine
