// Python pickles, protocols 2 to 5, read without running anything: https://github.com/python/cpython/blob/main/Lib/pickletools.py
// A pickle is a program for a stack machine that calls functions by name. Here it only makes values: a call stays a description of the
// call, a function that the caller does not list is an Error, and so is every instruction that torch.save does not use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/byte_cursor.hpp"

namespace deltatune {

struct PickleValue {
  enum class Kind { kNothing, kBoolean, kInteger, kFloat, kText, kGlobal, kTuple, kList, kDict, kCall, kPersistentId };

  Kind kind = Kind::kNothing;
  std::int64_t integer = 0;  // boolean, integer
  std::string_view text{};   // text; name of a global, "torch.FloatStorage"
  // Tuple, list: the elements. Dict: key, value, key, value ... Call: the global and the tuple of its arguments. Persistent id: the id.
  // A value may stand in several places, a list or dict even in itself.
  std::vector<const PickleValue*> items{};
};

class Pickle {
 public:
  // The pickle that the bytes begin with. Texts point into `bytes` and `globals`; `where` is for messages.
  static Pickle read(std::span<const std::byte> bytes, const std::string& where, std::span<const std::string_view> globals) {
    Pickle pickle;
    Machine(pickle, bytes, where, globals).run();
    return pickle;
  }

  const PickleValue& root() const { return *root_; }
  const std::deque<PickleValue>& values() const { return values_; }  // all of them, in the order of the file
  std::size_t size() const { return size_; }                         // bytes that it took

 private:
  using Kind = PickleValue::Kind;

  // Values cost up to a hundred times the bytes that make them; a tensor takes about 200 of these bytes.
  static constexpr std::size_t kMaxBytes = std::size_t{4} << 20U;

  class Machine {
   public:
    Machine(Pickle& pickle, std::span<const std::byte> bytes, const std::string& where, std::span<const std::string_view> globals)
        : pickle_(pickle), cursor_(bytes, where), globals_(globals) {}

    void run() {
      constexpr std::uint8_t kStop = '.';
      for (std::uint8_t code = cursor_.number<std::uint8_t>(); code != kStop; code = cursor_.number<std::uint8_t>()) {
        if (cursor_.position() > kMaxBytes) cursor_.fail("is too large", {.expected = "at most " + std::to_string(kMaxBytes) + " bytes"});
        step(code);
      }
      pickle_.root_ = pop();
      if (!stack_.empty() || !marks_.empty()) cursor_.fail("the pickle stops before it is finished");
      pickle_.size_ = cursor_.position();
    }

   private:
    void step(std::uint8_t code) {
      switch (code) {
        case 0x80: {  // PROTO
          const auto protocol = cursor_.number<std::uint8_t>();
          if (protocol < 2 || protocol > 5) cursor_.fail("unknown pickle protocol", {.expected = "2 to 5", .got = std::to_string(protocol)});
          return;
        }
        case 0x95:  // FRAME
          cursor_.take(8);
          return;
        case '(':  // MARK
          return marks_.push_back(stack_.size());

        case 'N':
          return push({.kind = Kind::kNothing});
        case 0x88:
          return push({.kind = Kind::kBoolean, .integer = 1});
        case 0x89:
          return push({.kind = Kind::kBoolean, .integer = 0});
        case 'K':  // BININT1
          return push_integer(cursor_.number<std::uint8_t>());
        case 'M':  // BININT2
          return push_integer(cursor_.number<std::uint16_t>());
        case 'J':  // BININT
          return push_integer(cursor_.number<std::int32_t>());
        case 0x8a:  // LONG1
          return push_long(cursor_.number<std::uint8_t>());
        case 'G':  // BINFLOAT: nobody asks for the number
          cursor_.take(8);
          return push({.kind = Kind::kFloat});
        case 0x8c:  // SHORT_BINUNICODE
          return push_text(cursor_.number<std::uint8_t>());
        case 'X':  // BINUNICODE
          return push_text(cursor_.number<std::uint32_t>());
        case 0x8d:  // BINUNICODE8
          return push_text(cursor_.number<std::uint64_t>());

        case ')':  // EMPTY_TUPLE
          return push({.kind = Kind::kTuple});
        case 0x85:  // TUPLE1
        case 0x86:
        case 0x87:
          return push_tuple(code - 0x84U);
        case 't':  // TUPLE
          return push_tuple(pop_mark());
        case ']':  // EMPTY_LIST
          return push({.kind = Kind::kList});
        case 'a':  // APPEND
          return add_items(Kind::kList, 1);
        case 'e':  // APPENDS
          return add_items(Kind::kList, pop_mark());
        case '}':  // EMPTY_DICT
          return push({.kind = Kind::kDict});
        case 's':  // SETITEM
          return add_items(Kind::kDict, 2);
        case 'u':  // SETITEMS
          return add_items(Kind::kDict, pop_mark());

        case 'c': {  // GLOBAL
          const std::string_view scope = cursor_.line();
          return push_global(scope, cursor_.line());
        }
        case 0x93: {  // STACK_GLOBAL
          const std::string_view name = pop(Kind::kText)->text;
          return push_global(pop(Kind::kText)->text, name);
        }
        case 'R':  // REDUCE
          return push_call();
        case 'b':  // BUILD: attributes of an object, such as the _metadata of a state dict
          pop();
          need(1);
          if (stack_.back()->kind != Kind::kDict) cursor_.fail("sets attributes of something that is no dict");
          return;
        case 'Q': {  // BINPERSID
          const PickleValue* const id = pop();
          return push({.kind = Kind::kPersistentId, .items = {id}});
        }

        case 'q':  // BINPUT
          return put(cursor_.number<std::uint8_t>());
        case 'r':  // LONG_BINPUT
          return put(cursor_.number<std::uint32_t>());
        case 0x94:  // MEMOIZE
          return put(memo_.size());
        case 'h':  // BINGET
          return get(cursor_.number<std::uint8_t>());
        case 'j':  // LONG_BINGET
          return get(cursor_.number<std::uint32_t>());

        default:
          cursor_.fail("has an instruction that a file of tensors does not need", {.got = "code " + std::to_string(code)});
      }
    }

    void push(PickleValue value) { stack_.push_back(&pickle_.values_.emplace_back(std::move(value))); }
    void push_integer(std::int64_t value) { push({.kind = Kind::kInteger, .integer = value}); }
    void push_text(std::uint64_t length) { push({.kind = Kind::kText, .text = cursor_.text(length)}); }

    // Two's complement in as many bytes as it takes.
    void push_long(std::uint8_t length) {
      const auto bytes = cursor_.take(length);
      if (bytes.size() > sizeof(std::int64_t)) cursor_.fail("an integer does not fit 64 bits");
      const bool negative = !bytes.empty() && (bytes.back() & std::byte{0x80}) != std::byte{0};
      std::int64_t value = negative ? -1 : 0;
      if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
      push_integer(value);
    }

    void push_global(std::string_view scope, std::string_view name) {
      for (const std::string_view known : globals_) {
        if (known.size() == scope.size() + 1 + name.size() && known.starts_with(scope) && known[scope.size()] == '.' && known.ends_with(name))
          return push({.kind = Kind::kGlobal, .text = known});
      }
      cursor_.fail("wants to use \"" + detail::printable(scope) + "." + detail::printable(name) + "\"",
                   {.expected = "nothing but tensors, their storages and dictionaries",
                    .remedy = "this is not a plain file of tensors and may be malicious; nothing of it was run. If you trust it, load it in "
                              "Python and save its state dict of tensors"});
    }

    void push_call() {
      const PickleValue* const arguments = pop(Kind::kTuple);
      const PickleValue* const function = pop(Kind::kGlobal);
      if (function->text != "collections.OrderedDict") return push({.kind = Kind::kCall, .items = {function, arguments}});
      if (!arguments->items.empty()) cursor_.fail("makes an OrderedDict with arguments", {.expected = "an empty one"});
      push({.kind = Kind::kDict});
    }

    void push_tuple(std::size_t count) { push({.kind = Kind::kTuple, .items = pop_items(count)}); }

    // To the list or dict below them.
    void add_items(Kind kind, std::size_t count) {
      const std::vector<const PickleValue*> items = pop_items(count);
      if (kind == Kind::kDict && count % 2 != 0) cursor_.fail("a key of a dict has no value");
      need(1);
      if (stack_.back()->kind != kind) cursor_.fail("adds to something that is no list or dict");
      stack_.back()->items.insert(stack_.back()->items.end(), items.begin(), items.end());
    }

    // Values since the last mark, which goes.
    std::size_t pop_mark() {
      if (marks_.empty()) cursor_.fail("a mark is missing");
      const std::size_t count = stack_.size() - marks_.back();
      marks_.pop_back();
      return count;
    }

    std::vector<const PickleValue*> pop_items(std::size_t count) {
      need(count);
      std::vector<const PickleValue*> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
      stack_.resize(stack_.size() - count);
      return items;
    }

    const PickleValue* pop() {
      need(1);
      const PickleValue* const value = stack_.back();
      stack_.pop_back();
      return value;
    }

    const PickleValue* pop(Kind kind) {
      const PickleValue* const value = pop();
      if (value->kind != kind) cursor_.fail("an instruction has an operand of the wrong kind");
      return value;
    }

    // What lies below a mark belongs to an earlier instruction.
    void need(std::size_t count) {
      if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count) cursor_.fail("an operand is missing on the stack");
    }

    void put(std::size_t index) {
      need(1);
      if (index > memo_.size()) cursor_.fail("numbers its values out of order");
      if (index == memo_.size()) memo_.emplace_back();
      memo_[index] = stack_.back();
    }

    void get(std::size_t index) {
      if (index >= memo_.size()) cursor_.fail("refers to a value that it has not made");
      stack_.push_back(memo_[index]);
    }

    Pickle& pickle_;
    ByteCursor cursor_;
    std::span<const std::string_view> globals_;
    std::vector<PickleValue*> stack_;
    std::vector<std::size_t> marks_;  // sizes of the stack
    std::vector<PickleValue*> memo_;
  };

  Pickle() = default;

  std::deque<PickleValue> values_;  // never move
  const PickleValue* root_ = nullptr;
  std::size_t size_ = 0;
};

namespace detail {

// For messages: "a dict".
DELTATUNE_FUNCTION std::string describe_pickled(const PickleValue& value) {
  switch (value.kind) {
    case PickleValue::Kind::kNothing:
      return "None";
    case PickleValue::Kind::kBoolean:
      return value.integer != 0 ? "True" : "False";
    case PickleValue::Kind::kInteger:
      return std::to_string(value.integer);
    case PickleValue::Kind::kFloat:
      return "a floating-point number";
    case PickleValue::Kind::kText:
      return "the text \"" + printable(value.text) + "\"";
    case PickleValue::Kind::kGlobal:
      return std::string(value.text);
    case PickleValue::Kind::kTuple:
      return "a tuple of " + std::to_string(value.items.size());
    case PickleValue::Kind::kList:
      return "a list";
    case PickleValue::Kind::kDict:
      return "a dict";
    case PickleValue::Kind::kCall:
      return "what " + std::string(value.items.front()->text) + " makes";
    case PickleValue::Kind::kPersistentId:
      return "a storage";
  }
  return {};
}

}  // namespace detail

}  // namespace deltatune
