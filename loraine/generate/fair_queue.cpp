// The round, and who was passed over too often.
#include "loraine/generate/fair_queue.h"

#include <algorithm>

namespace loraine {

std::list<FairQueue::Turn>::iterator FairQueue::turn_of(const Flow& flow) {
  return std::find_if(round_.begin(), round_.end(), [&](const Turn& turn) { return turn.flow == flow; });
}

void FairQueue::push(int64_t number, const Flow& flow, int64_t cost) {
  waiting_[number] = {flow, cost, 0};
  auto turn = turn_of(flow);
  if (turn == round_.end()) turn = round_.insert(round_.end(), Turn{flow});
  turn->numbers.insert(std::ranges::lower_bound(turn->numbers, number), number);
}

void FairQueue::push_back_again(int64_t number, const Flow& flow) {
  push(number, flow, 0);
  waiting_.at(number).passed_over = kMostPassedOver;
}

std::optional<int64_t> FairQueue::next() {
  if (waiting_.empty()) return std::nullopt;
  const auto first = std::ranges::find_if(waiting_, [](const auto& entry) { return entry.second.passed_over >= kMostPassedOver; });
  if (first != waiting_.end()) return first->first;
  for (;;) {
    Turn& turn = round_.front();
    if (!turn.visited) turn.deficit += quantum_;
    turn.visited = true;
    if (waiting_.at(turn.numbers.front()).cost <= turn.deficit) return turn.numbers.front();
    turn.visited = false;
    round_.splice(round_.end(), round_, round_.begin());
  }
}

void FairQueue::serve(int64_t number) {
  const Waiting& served = waiting_.at(number);
  turn_of(served.flow)->deficit -= served.cost;
  for (auto& [other, waiting] : waiting_) {
    if (other >= number) break;
    ++waiting.passed_over;
  }
  leave(number);
}

void FairQueue::remove(int64_t number) {
  if (waiting_.contains(number)) leave(number);
}

void FairQueue::leave(int64_t number) {
  const auto turn = turn_of(waiting_.at(number).flow);
  std::erase(turn->numbers, number);
  if (turn->numbers.empty()) round_.erase(turn);  // its deficit is forgotten: who has nothing to ask saves nothing up
  waiting_.erase(number);
}

}  // namespace loraine
