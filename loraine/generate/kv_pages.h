// Who has which pages of the KV cache: counts of their holders, and the tree of prompts whose pages are kept for those that begin in the
// same way. Numbers only; the rows lie in KvCache. Called by the engine.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "loraine/core/batch.h"

namespace loraine {

class KvPages {
 public:
  explicit KvPages(int64_t pages);
  // A page for one holder; −1: none is free.
  int32_t take();
  void hold(int32_t page) { ++holders_[static_cast<size_t>(page)]; }
  void release(int32_t page);
  int64_t holders(int32_t page) const { return holders_[static_cast<size_t>(page)]; }
  int64_t count() const { return static_cast<int64_t>(holders_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }

 private:
  std::vector<int32_t> holders_, free_;
};

// A page of a prompt below the page before it (a radix tree over whole pages, as SGLang and vLLM have them; Zheng et al. 2024). A root for
// every key: what gave the keys and values (the adapter's bytes, a caller's salt).
class PrefixTree {
 public:
  struct Node;
  explicit PrefixTree(KvPages& pages);
  ~PrefixTree();
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  // The pages that the tree has of the beginning of `ids`, as far as whole pages of it go; each is held for the caller, and used now.
  std::vector<int32_t> find(const std::string& key, std::span<const int32_t> ids);
  // How many of those others hold now, so that they need no page more.
  int64_t in_use(const std::string& key, std::span<const int32_t> ids) const;
  // pages[i] has the rows of ids [i · kKvPage, (i + 1) · kKvPage): what the tree has not yet it holds from now on; where it has another
  // page with the same rows, the caller gets that one in place of its own.
  void keep(const std::string& key, std::span<const int32_t> ids, std::span<int32_t> pages);
  // Lets go of the page that was used longest ago of those that nobody else holds and no longer prefix needs. False: there is none.
  bool evict();
  // Pages that evict() would free, one after the other.
  int64_t evictable() const;
  int64_t size() const { return size_; }

 private:
  void use(Node& node);
  Node* child(Node& parent, std::span<const int32_t> ids) const;

  KvPages& pages_;
  std::map<std::string, std::unique_ptr<Node>> roots_;
  std::set<std::pair<uint64_t, Node*>> leaves_;  // by when they were used
  uint64_t clock_ = 0;
  int64_t size_ = 0;
};

}  // namespace loraine
