// Whose turn it is of those that wait: deficit round robin over flows (Shreedhar and Varghese 1996), first come first served within one.
// Called by the engine.
#pragma once
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace loraine {

class FairQueue {
 public:
  using Flow = std::pair<const void*, std::string>;  // an adapter and who asks

  // quantum: cost that a flow may take in its turn.
  explicit FairQueue(int64_t quantum) : quantum_(quantum) {}
  // Numbers grow in the order of coming; one that comes back takes its old place, and its turn is next.
  void push(int64_t number, const Flow& flow, int64_t cost);
  void push_back_again(int64_t number, const Flow& flow);
  // Whose turn it is; nullopt: nobody waits. The same until something changes.
  std::optional<int64_t> next();
  // It is served: its flow pays, and those that came before it count that they were passed over.
  void serve(int64_t number);
  void remove(int64_t number);  // nothing happens when it does not wait
  bool empty() const { return waiting_.empty(); }

 private:
  static constexpr int64_t kMostPassedOver = 8;
  struct Waiting {
    Flow flow;
    int64_t cost = 0, passed_over = 0;
  };
  struct Turn {
    Flow flow;
    int64_t deficit = 0;
    std::deque<int64_t> numbers;  // ascending
    bool visited = false;         // whether it has been given its quantum in this round
  };
  std::list<Turn>::iterator turn_of(const Flow& flow);
  void leave(int64_t number);

  int64_t quantum_;
  std::map<int64_t, Waiting> waiting_;
  std::list<Turn> round_;  // the first one has its turn
};

}  // namespace loraine
