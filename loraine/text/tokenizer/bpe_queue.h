// Pairs that wait to merge, taken by lowest rank, then leftmost: a list of places for every rank. Part of bpe.h.
// Places mostly arrive from left to right, so a list is read in order; one that got them in another order becomes a heap.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace loraine::tokens {

class MergeQueue {
 public:
  void push(uint32_t rank, uint32_t place);
  bool pop(uint32_t& rank, uint32_t& place);  // false: empty
  void clear();

 private:
  struct List {
    std::vector<uint32_t> places;  // [taken, end) wait
    size_t taken = 0;
    bool waiting = false, heap = false;  // waiting: its rank is in ranks_
  };
  void take_from(List& list, uint32_t& place);

  std::vector<List> lists_;        // as many as seen_ has belong to this word
  std::vector<uint32_t> list_of_;  // by rank: index in lists_ + 1, 0 for none
  std::vector<uint32_t> seen_;     // ranks with a list, to forget them at the end
  std::vector<uint32_t> ranks_;    // a heap of the waiting ones
};

inline void MergeQueue::push(uint32_t rank, uint32_t place) {
  if (rank >= list_of_.size()) list_of_.resize(rank + rank / 2 + 1024, 0);
  uint32_t& index = list_of_[rank];
  if (index == 0) {
    seen_.push_back(rank);
    index = static_cast<uint32_t>(seen_.size());
    if (seen_.size() > lists_.size()) lists_.emplace_back();
  }
  List& list = lists_[index - 1];
  if (!list.waiting) {
    list.places.clear();
    list.taken = 0;
    list.waiting = true;
    list.heap = false;
    ranks_.push_back(rank);
    std::push_heap(ranks_.begin(), ranks_.end(), std::greater<>{});
  }
  bool in_order = list.places.empty() || place >= list.places.back();
  list.places.push_back(place);
  if (list.heap) {
    std::push_heap(list.places.begin(), list.places.end(), std::greater<>{});
  } else if (!in_order) {
    list.places.erase(list.places.begin(), list.places.begin() + static_cast<std::ptrdiff_t>(list.taken));
    list.taken = 0;
    std::make_heap(list.places.begin(), list.places.end(), std::greater<>{});
    list.heap = true;
  }
}

inline void MergeQueue::take_from(List& list, uint32_t& place) {
  if (list.heap) {
    std::pop_heap(list.places.begin(), list.places.end(), std::greater<>{});
    place = list.places.back();
    list.places.pop_back();
  } else {
    place = list.places[list.taken++];
  }
}

inline bool MergeQueue::pop(uint32_t& rank, uint32_t& place) {
  while (!ranks_.empty()) {
    rank = ranks_.front();
    List& list = lists_[list_of_[rank] - 1];
    if (list.taken < list.places.size()) {
      take_from(list, place);
      return true;
    }
    list.waiting = false;
    std::pop_heap(ranks_.begin(), ranks_.end(), std::greater<>{});
    ranks_.pop_back();
  }
  return false;
}

inline void MergeQueue::clear() {
  for (size_t i = 0; i < seen_.size(); ++i) {
    list_of_[seen_[i]] = 0;
    if (i < lists_.size()) lists_[i].waiting = false;
  }
  seen_.clear();
  ranks_.clear();
}

}  // namespace loraine::tokens
