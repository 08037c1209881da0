// What a template can hold besides data: a macro, the loop variable and its methods. Made by the engine (eval.h).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/text/jinja/eval.h"

namespace loraine::jinja {

struct MacroObject : CallableObject {
  const Node* node;
  ScopePtr closure;
  std::string name;
  bool is_caller = false;
  Value call(Engine& engine, Args& args) override { return engine.call_macro(*node, closure, name, args, is_caller); }
  std::string class_name() const override { return "Macro"; }
  std::optional<Value> attribute(Engine&, const std::string& key) override {
    if (key == "name") return string(name);
    if (key == "catch_kwargs") return boolean(node->uses_kwargs);
    if (key == "catch_varargs") return boolean(node->uses_varargs);
    if (key == "caller") return boolean(node->uses_caller);
    if (key != "arguments") return std::nullopt;
    std::vector<Value> names;
    for (const std::string& n : node->names) names.push_back(string(n));
    return list(std::move(names), Type::Tuple);
  }
};

struct LoopObject : CallableObject {
  const Node* node = nullptr;
  std::weak_ptr<Scope> scope;
  std::vector<Value> items;
  std::optional<std::vector<Value>> last_changed;
  int64_t index0 = 0;
  int level = 0;

  int64_t size() const { return static_cast<int64_t>(items.size()); }
  bool callable() const override { return true; }
  std::string class_name() const override { return "LoopContext"; }
  Value call(Engine& engine, Args& args) override {
    if (!node->recursive) fail("TypeError", "The loop must have the 'recursive' marker to be called recursively.");
    ScopePtr outer = scope.lock();
    if (!outer || args.positional.size() != 1) fail("TypeError", "loop() takes one iterable, inside its loop");
    return engine.run_loop(*node, args.positional[0], outer, level + 1);
  }
  std::optional<Value> attribute(Engine&, const std::string& key) override;
  Value neighbour(int64_t k, const char* which) const {
    if (k < 0 || k >= size()) return undefined(which);
    return items[static_cast<size_t>(k)];
  }
};

struct LoopMethod : CallableObject {
  std::shared_ptr<LoopObject> loop;
  bool cycle = false;
  Value call(Engine& engine, Args& args) override {
    if (!cycle) engine.keep_loop(loop);
    if (cycle) {
      if (args.positional.empty()) fail("TypeError", "no items for cycling given");
      return args.positional[static_cast<size_t>(loop->index0) % args.positional.size()];
    }
    bool same = loop->last_changed && loop->last_changed->size() == args.positional.size();
    for (size_t k = 0; same && k < args.positional.size(); ++k) same = equal((*loop->last_changed)[k], args.positional[k]);
    loop->last_changed = args.positional;
    return boolean(!same);
  }
  std::string class_name() const override { return "method"; }
};

// `loop.cycle` and `loop.changed` need the shared pointer, so the engine makes them (see Engine::eval_call and attribute below).
inline std::optional<Value> LoopObject::attribute(Engine&, const std::string& key) {
  if (key == "index") return integer(index0 + 1);
  if (key == "index0") return integer(index0);
  if (key == "revindex") return integer(size() - index0);
  if (key == "revindex0") return integer(size() - index0 - 1);
  if (key == "first") return boolean(index0 == 0);
  if (key == "last") return boolean(index0 + 1 == size());
  if (key == "length") return integer(size());
  if (key == "depth") return integer(level + 1);
  if (key == "depth0") return integer(level);
  if (key == "previtem") return neighbour(index0 - 1, "there is no previous item");
  if (key == "nextitem") return neighbour(index0 + 1, "there is no next item");
  return std::nullopt;
}

inline Value object_value(std::shared_ptr<Object> object) {
  Value v;
  v.type = Type::Object;
  v.o = std::move(object);
  return v;
}

}  // namespace loraine::jinja
