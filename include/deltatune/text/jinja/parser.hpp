// Tokens to the tree of a template, by Jinja's grammar. What this engine lacks is refused by its name.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/jinja/lexer.hpp"
#include "deltatune/text/jinja/syntax.hpp"

namespace deltatune::jinja {

// Of a tree: a limit on nesting, so that no template can exhaust the stack.
inline constexpr int kMaxTreeDepth = 150;

class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& name) : tokens_(std::move(tokens)), name_(name) {}

  // The template as a kBody. Throws Error for what is no template, or one with parts that this engine lacks.
  DELTATUNE_FUNCTION Node run() {
    Node body = statements({});
    if (current().kind != TokenKind::kEnd) fail("the block " + current().text + " ends nothing");
    return body;
  }

  bool has_generation_blocks() const { return has_generation_blocks_; }

 private:
  // --- Tokens

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  bool is_operator(std::string_view text) const { return current().kind == TokenKind::kOperator && current().text == text; }
  bool is_name(std::string_view text) const { return current().kind == TokenKind::kName && current().text == text; }

  Token next() {
    Token token = current();
    if (token.kind != TokenKind::kEnd) ++at_;
    return token;
  }

  bool skip_operator(std::string_view text) {
    const bool found = is_operator(text);
    if (found) ++at_;
    return found;
  }

  bool skip_name(std::string_view text) {
    const bool found = is_name(text);
    if (found) ++at_;
    return found;
  }

  static DELTATUNE_FUNCTION std::string described(const Token& token) {
    switch (token.kind) {
      case TokenKind::kText:
        return "text";
      case TokenKind::kPrintBegin:
        return "{{";
      case TokenKind::kPrintEnd:
        return "}}";
      case TokenKind::kBlockBegin:
        return "{%";
      case TokenKind::kBlockEnd:
        return "%}";
      case TokenKind::kString:
        return "a string";
      case TokenKind::kEnd:
        return "the end of the template";
      default:
        return token.text;
    }
  }

  [[noreturn]] void fail(const std::string& what, const ErrorDetail& detail = {}) const { fail_at(current().line, what, detail); }
  [[noreturn]] void fail_at(int line, const std::string& what, const ErrorDetail& detail = {}) const { throw Error(place_in(name_, line), what, detail); }
  [[noreturn]] void fail_expected(const std::string& expected) const { fail("wrong syntax", {.expected = expected, .got = described(current())}); }

  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail_expected(std::string(text));
  }

  std::string expect_name(const std::string& what) {
    if (current().kind != TokenKind::kName) fail_expected(what);
    return next().text;
  }

  void expect_block_end() {
    if (current().kind != TokenKind::kBlockEnd) fail_expected("%}");
    next();
  }

  // --- Nodes

  Node make(NodeKind kind, int line, std::vector<Node> children = {}, std::string text = {}) const {
    Node node{.kind = kind, .line = line, .text = std::move(text), .children = std::move(children)};
    for (const Node& child : node.children) node.depth = std::max(node.depth, child.depth + 1);
    if (node.depth > kMaxTreeDepth) fail_at(line, "the template is nested too deeply", {.expected = "at most " + std::to_string(kMaxTreeDepth) + " levels"});
    return node;
  }

  template <class... Nodes>
  Node make_of(NodeKind kind, int line, std::string text, Nodes... nodes) const {
    std::vector<Node> children;
    children.reserve(sizeof...(nodes));
    (children.push_back(std::move(nodes)), ...);
    return make(kind, line, std::move(children), std::move(text));
  }

  Node constant(Value value, int line) const {
    Node node = make(NodeKind::kConstant, line);
    node.value = std::move(value);
    return node;
  }

  // Counts the levels of the descent itself.
  class Descent {
   public:
    explicit Descent(Parser& parser) : depth_(parser.depth_) {
      if (++depth_ > kMaxTreeDepth) parser.fail("the template is nested too deeply", {.expected = "at most " + std::to_string(kMaxTreeDepth) + " levels"});
    }
    ~Descent() { --depth_; }
    Descent(const Descent&) = delete;
    Descent& operator=(const Descent&) = delete;

   private:
    int& depth_;
  };

  // --- Statements

  // Up to a block that begins with one of `ends`, on whose name it stops; up to the end of the template for none.
  DELTATUNE_FUNCTION Node statements(std::initializer_list<std::string_view> ends) {
    const Descent descent(*this);
    const int line = current().line;
    std::vector<Node> body;
    for (;;) {
      const Token token = current();
      if (token.kind == TokenKind::kEnd) {
        if (ends.size() > 0) fail_at(line, "a block has no end", {.expected = "{% " + std::string(*(ends.end() - 1)) + " %}"});
        break;
      }
      next();
      if (token.kind == TokenKind::kText) {
        body.push_back(make(NodeKind::kText, token.line, {}, token.text));
      } else if (token.kind == TokenKind::kPrintBegin) {
        body.push_back(make_of(NodeKind::kPrint, token.line, "", tuple_or_expression(true)));
        if (current().kind != TokenKind::kPrintEnd) fail_expected("}}");
        next();
      } else {
        if (current().kind == TokenKind::kName && std::find(ends.begin(), ends.end(), current().text) != ends.end()) break;
        body.push_back(statement());
        expect_block_end();
      }
    }
    return make(NodeKind::kBody, line, std::move(body));
  }

  // The body of the block whose head ends here, and the name of the block that ends it.
  DELTATUNE_FUNCTION Node block(std::initializer_list<std::string_view> ends, std::string* end_out = nullptr) {
    skip_operator(":");
    expect_block_end();
    Node body = statements(ends);
    std::string end = next().text;
    if (end_out != nullptr) *end_out = std::move(end);
    return body;
  }

  DELTATUNE_FUNCTION Node statement() {
    const int line = current().line;
    const std::string tag = expect_name("the name of a block");
    if (tag == "if") return if_statement(line);
    if (tag == "for") return for_statement(line);
    if (tag == "set") return set_statement(line);
    if (tag == "macro") return macro_statement(line);
    if (tag == "call") return call_statement(line);
    if (tag == "with") return with_statement(line);
    if (tag == "filter") {
      Node filters = filters_of(filter(make(NodeKind::kCaptured, line), line));
      return make_of(NodeKind::kFilterBlock, line, "", std::move(filters), block({"endfilter"}));
    }
    if (tag == "generation") {
      has_generation_blocks_ = true;
      return make_of(NodeKind::kGeneration, line, "", function_body({"endgeneration"}));
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail_at(line, tag + " outside of a loop");
      return make(tag == "break" ? NodeKind::kBreak : NodeKind::kContinue, line);
    }
    constexpr std::string_view kOfJinja[] = {"include", "import", "from", "extends", "block", "autoescape", "print", "do", "trans", "debug"};
    if (std::find(std::begin(kOfJinja), std::end(kOfJinja), tag) != std::end(kOfJinja)) {
      fail_at(line, "the block {% " + tag + " %} is not part of this engine", {.expected = "the blocks that chat templates are made of"});
    }
    fail_at(line, "unknown block {% " + tag + " %}");
  }

  // A body that break and continue cannot leave.
  Node function_body(std::initializer_list<std::string_view> ends) {
    const int loops = std::exchange(loops_, 0);
    Node body = block(ends);
    loops_ = loops;
    return body;
  }

  DELTATUNE_FUNCTION Node if_statement(int line) {
    std::vector<Node> parts;
    std::string end = "elif";
    while (end == "elif") {
      parts.push_back(tuple_or_expression(false));
      parts.push_back(block({"elif", "else", "endif"}, &end));
    }
    parts.push_back(end == "else" ? block({"endif"}) : Node{});
    return make(NodeKind::kIf, line, std::move(parts));
  }

  DELTATUNE_FUNCTION Node for_statement(int line) {
    Node target = assignment_target(false);
    if (!skip_name("in")) fail_expected("in");
    Node iterated = tuple_or_expression(false);
    Node condition;
    if (skip_name("if")) condition = expression();
    if (is_name("recursive")) fail("a recursive loop is not part of this engine", {.remedy = "write it as a macro"});
    std::string end;
    ++loops_;
    Node body = block({"else", "endfor"}, &end);
    --loops_;
    Node otherwise;
    if (end == "else") otherwise = block({"endfor"});
    return make_of(NodeKind::kFor, line, "", std::move(target), std::move(iterated), std::move(condition), std::move(body), std::move(otherwise));
  }

  DELTATUNE_FUNCTION Node set_statement(int line) {
    Node target = assignment_target(true);
    if (skip_operator("=")) return make_of(NodeKind::kSet, line, "", std::move(target), tuple_or_expression(true));
    Node filters = filters_of(make(NodeKind::kCaptured, line));
    return make_of(NodeKind::kSetBlock, line, "", std::move(target), std::move(filters), block({"endset"}));
  }

  DELTATUNE_FUNCTION Node with_statement(int line) {
    std::vector<Node> parts;
    while (current().kind != TokenKind::kBlockEnd) {
      if (!parts.empty()) expect_operator(",");
      parts.push_back(assignment_target(false));
      expect_operator("=");
      parts.push_back(expression());
    }
    parts.push_back(block({"endwith"}));
    return make(NodeKind::kWith, line, std::move(parts));
  }

  // (a, b=1): the names, and a default or kAbsent for each.
  DELTATUNE_FUNCTION std::vector<Node> signature(std::vector<std::string>& names_out) {
    std::vector<Node> defaults;
    bool has_defaults = false;
    expect_operator("(");
    while (!is_operator(")")) {
      if (!names_out.empty()) expect_operator(",");
      names_out.push_back(expect_name("the name of a parameter"));
      if (skip_operator("=")) {
        has_defaults = true;
        defaults.push_back(expression());
      } else {
        if (has_defaults) fail("a parameter without default follows one with a default");
        defaults.emplace_back();
      }
    }
    expect_operator(")");
    return defaults;
  }

  DELTATUNE_FUNCTION Node macro_statement(int line) {
    std::string name = expect_name("the name of a macro");
    std::vector<std::string> names;
    std::vector<Node> parts = signature(names);
    ++macros_;
    parts.push_back(function_body({"endmacro"}));
    --macros_;
    Node node = make(NodeKind::kMacro, line, std::move(parts), std::move(name));
    node.names = std::move(names);
    return node;
  }

  DELTATUNE_FUNCTION Node call_statement(int line) {
    std::vector<std::string> names;
    std::vector<Node> parts;
    if (is_operator("(")) parts = signature(names);
    Node call = expression();
    if (call.kind != NodeKind::kInvoke) fail_at(line, "{% call %} without a call", {.expected = "the call of a macro"});
    parts.push_back(function_body({"endcall"}));
    parts.push_back(std::move(call));
    Node node = make(NodeKind::kCall, line, std::move(parts), "caller");
    node.names = std::move(names);
    return node;
  }

  // A name, a tuple of names, or (with_members) an attribute of a namespace.
  DELTATUNE_FUNCTION Node assignment_target(bool with_members) {
    const int line = current().line;
    std::vector<Node> targets;
    bool is_tuple = false;
    for (;;) {
      if (!targets.empty() && (is_name("in") || is_operator("=") || is_operator(")"))) break;
      targets.push_back(one_target(with_members));
      if (!skip_operator(",")) break;
      is_tuple = true;
    }
    return is_tuple ? make(NodeKind::kTuple, line, std::move(targets)) : std::move(targets.front());
  }

  DELTATUNE_FUNCTION Node one_target(bool with_members) {
    const Descent descent(*this);
    const int line = current().line;
    if (skip_operator("(")) {
      Node target = assignment_target(with_members);
      expect_operator(")");
      return target;
    }
    std::string name = expect_name("the name of a variable");
    for (const std::string_view word : {"true", "false", "none", "True", "False", "None"})
      if (name == word) fail_at(line, name + " cannot be assigned to");
    if (!with_members || !skip_operator(".")) return make(NodeKind::kName, line, {}, std::move(name));
    Node node = make(NodeKind::kMember, line, {}, std::move(name));
    node.names.push_back(expect_name("the name of an attribute"));
    return node;
  }

  // --- Expressions

  bool ends_tuple() const {
    return current().kind == TokenKind::kPrintEnd || current().kind == TokenKind::kBlockEnd || is_operator(")") || is_name("recursive");
  }

  // a, b makes a tuple; `with_if`: may hold "a if b else c".
  DELTATUNE_FUNCTION Node tuple_or_expression(bool with_if, bool in_parentheses = false) {
    const int line = current().line;
    std::vector<Node> items;
    bool is_tuple = false;
    while (!ends_tuple()) {
      items.push_back(with_if ? expression() : disjunction());
      if (!skip_operator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items.front());
    if (!is_tuple && !in_parentheses) fail_expected("an expression");
    return make(NodeKind::kTuple, line, std::move(items));
  }

  DELTATUNE_FUNCTION Node expression() {
    const Descent descent(*this);
    Node result = disjunction();
    while (is_name("if")) {
      const int line = next().line;
      Node condition = disjunction(), otherwise;
      if (skip_name("else")) otherwise = expression();
      result = make_of(NodeKind::kConditional, line, "", std::move(condition), std::move(result), std::move(otherwise));
    }
    return result;
  }

  DELTATUNE_FUNCTION Node disjunction() {
    Node left = conjunction();
    while (is_name("or")) {
      const int line = next().line;
      Node right = conjunction();
      left = make_of(NodeKind::kOr, line, "", std::move(left), std::move(right));
    }
    return left;
  }

  DELTATUNE_FUNCTION Node conjunction() {
    Node left = negation();
    while (is_name("and")) {
      const int line = next().line;
      Node right = negation();
      left = make_of(NodeKind::kAnd, line, "", std::move(left), std::move(right));
    }
    return left;
  }

  DELTATUNE_FUNCTION Node negation() {
    const Descent descent(*this);
    if (!is_name("not")) return comparison();
    const int line = next().line;
    return make_of(NodeKind::kNot, line, "", negation());
  }

  DELTATUNE_FUNCTION Node comparison() {
    const int line = current().line;
    std::vector<Node> operands;
    std::vector<std::string> operators;
    operands.push_back(sum());
    for (;;) {
      const bool compares = is_operator("==") || is_operator("!=") || is_operator("<") || is_operator("<=") || is_operator(">") || is_operator(">=");
      if (compares || is_name("in")) {
        operators.push_back(next().text);
      } else if (is_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
        at_ += 2;
        operators.emplace_back("not in");
      } else {
        break;
      }
      operands.push_back(sum());
    }
    if (operators.empty()) return std::move(operands.front());
    Node node = make(NodeKind::kCompare, line, std::move(operands));
    node.names = std::move(operators);
    return node;
  }

  DELTATUNE_FUNCTION Node sum() {
    Node left = concatenation();
    while (is_operator("+") || is_operator("-")) {
      const Token sign = next();
      Node right = concatenation();
      left = make_of(NodeKind::kBinary, sign.line, sign.text, std::move(left), std::move(right));
    }
    return left;
  }

  DELTATUNE_FUNCTION Node concatenation() {
    const int line = current().line;
    std::vector<Node> operands;
    operands.push_back(product());
    while (skip_operator("~")) operands.push_back(product());
    return operands.size() == 1 ? std::move(operands.front()) : make(NodeKind::kConcatenate, line, std::move(operands));
  }

  DELTATUNE_FUNCTION Node product() {
    Node left = power();
    while (is_operator("*") || is_operator("/") || is_operator("//") || is_operator("%")) {
      const Token sign = next();
      Node right = power();
      left = make_of(NodeKind::kBinary, sign.line, sign.text, std::move(left), std::move(right));
    }
    return left;
  }

  // From left to right, as Jinja has it (Python: from right to left).
  DELTATUNE_FUNCTION Node power() {
    Node left = unary(true);
    while (is_operator("**")) {
      const int line = next().line;
      Node right = unary(true);
      left = make_of(NodeKind::kBinary, line, "**", std::move(left), std::move(right));
    }
    return left;
  }

  DELTATUNE_FUNCTION Node unary(bool with_filters) {
    const Descent descent(*this);
    const int line = current().line;
    Node node;
    if (skip_operator("-")) {
      node = make_of(NodeKind::kNegative, line, "", unary(false));
    } else if (skip_operator("+")) {
      node = make_of(NodeKind::kPositive, line, "", unary(false));
    } else {
      node = primary();
    }
    node = postfix(std::move(node));
    while (with_filters) {
      if (is_operator("|")) {
        node = filters_of(std::move(node));
      } else if (is_name("is")) {
        node = test(std::move(node));
      } else if (is_operator("(")) {
        node = invoke(std::move(node));
      } else {
        break;
      }
    }
    return node;
  }

  DELTATUNE_FUNCTION Node primary() {
    const Token token = current();
    switch (token.kind) {
      case TokenKind::kName: {
        next();
        if (token.text == "true" || token.text == "True") return constant(true, token.line);
        if (token.text == "false" || token.text == "False") return constant(false, token.line);
        if (token.text == "none" || token.text == "None") return constant(nullptr, token.line);
        if (macros_ > 0 && (token.text == "varargs" || token.text == "kwargs")) fail_at(token.line, token.text + " of a macro is not part of this engine");
        return make(NodeKind::kName, token.line, {}, token.text);
      }
      case TokenKind::kString: {
        std::string text;
        while (current().kind == TokenKind::kString) text += next().text;
        return constant(std::move(text), token.line);
      }
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        next();
        return number(token);
      default:
        break;
    }
    if (skip_operator("(")) {
      Node inner = tuple_or_expression(true, true);
      expect_operator(")");
      return inner;
    }
    if (skip_operator("[")) {
      std::vector<Node> items;
      while (!is_operator("]")) {
        if (!items.empty()) expect_operator(",");
        if (is_operator("]")) break;
        items.push_back(expression());
      }
      expect_operator("]");
      return make(NodeKind::kList, token.line, std::move(items));
    }
    if (skip_operator("{")) {
      std::vector<Node> items;
      while (!is_operator("}")) {
        if (!items.empty()) expect_operator(",");
        if (is_operator("}")) break;
        items.push_back(expression());
        expect_operator(":");
        items.push_back(expression());
      }
      expect_operator("}");
      return make(NodeKind::kDict, token.line, std::move(items));
    }
    fail_expected("an expression");
  }

  DELTATUNE_FUNCTION Node number(const Token& token) const {
    const char* const end = token.text.data() + token.text.size();
    if (token.kind == TokenKind::kFloat) {
      double value = 0.0;
      std::from_chars(token.text.data(), end, value);
      return constant(value, token.line);
    }
    std::int64_t value = 0;
    if (std::from_chars(token.text.data(), end, value).ec != std::errc())
      fail_at(token.line, "an integer is too large", {.expected = "64 bits", .got = token.text});
    return constant(value, token.line);
  }

  DELTATUNE_FUNCTION Node postfix(Node node) {
    for (;;) {
      const int line = current().line;
      if (skip_operator(".")) {
        if (current().kind == TokenKind::kInteger) {
          const Token index = next();
          node = make_of(NodeKind::kItem, line, "", std::move(node), number(index));
        } else {
          std::string name = expect_name("the name of an attribute");
          node = make_of(NodeKind::kAttribute, line, std::move(name), std::move(node));
        }
      } else if (skip_operator("[")) {
        node = subscript(std::move(node), line);
      } else if (is_operator("(")) {
        node = invoke(std::move(node));
      } else {
        return node;
      }
    }
  }

  DELTATUNE_FUNCTION Node subscript(Node object, int line) {
    std::vector<Node> bounds;
    bounds.push_back(std::move(object));
    bool is_slice = false;
    for (int part = 0; part < 3; ++part) {
      const bool is_missing = is_operator(":") || is_operator("]");
      bounds.push_back(is_missing ? constant(nullptr, line) : expression());
      if (is_missing && part == 0 && is_operator("]")) fail_expected("an index");
      if (part == 2 || !skip_operator(":")) break;
      is_slice = true;
    }
    if (is_operator(",")) fail("an index of several parts is not part of this engine");
    expect_operator("]");
    if (!is_slice) return make(NodeKind::kItem, line, std::move(bounds));
    while (bounds.size() < 4) bounds.push_back(constant(nullptr, line));
    return make(NodeKind::kSlice, line, std::move(bounds));
  }

  // (a, b=c), appended to the node.
  DELTATUNE_FUNCTION void arguments(Node& node_io) {
    expect_operator("(");
    bool is_first = true;
    while (!is_operator(")")) {
      if (!std::exchange(is_first, false)) expect_operator(",");
      if (is_operator(")")) break;
      if (is_operator("*") || is_operator("**")) fail("arguments from a list or dict (* and **) are not part of this engine", {.remedy = "write them out"});
      const bool is_named = current().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator && ahead().text == "=";
      std::string name;
      if (is_named) {
        name = next().text;
        next();
      } else if (!node_io.names.empty() && !node_io.names.back().empty()) {
        fail("an argument without name follows one with a name");
      }
      node_io.names.push_back(std::move(name));
      node_io.children.push_back(expression());
    }
    expect_operator(")");
  }

  // The node once more, with its depth.
  Node finished(Node node) const {
    Node result = make(node.kind, node.line, std::move(node.children), std::move(node.text));
    result.names = std::move(node.names);
    return result;
  }

  DELTATUNE_FUNCTION Node invoke(Node function) {
    Node node = make_of(NodeKind::kInvoke, current().line, "", std::move(function));
    arguments(node);
    return finished(std::move(node));
  }

  std::string dotted_name(const std::string& what) {
    std::string name = expect_name(what);
    while (skip_operator(".")) name += "." + expect_name(what);
    return name;
  }

  DELTATUNE_FUNCTION Node filter(Node input, int line) {
    std::string name = dotted_name("the name of a filter");
    Node node = make_of(NodeKind::kFilter, line, std::move(name), std::move(input));
    if (is_operator("(")) arguments(node);
    return finished(std::move(node));
  }

  DELTATUNE_FUNCTION Node filters_of(Node input) {
    while (is_operator("|")) {
      const int line = next().line;
      input = filter(std::move(input), line);
    }
    return input;
  }

  DELTATUNE_FUNCTION Node test(Node input) {
    const int line = next().line;  // is
    const bool is_negated = skip_name("not");
    std::string name = dotted_name("the name of a test");
    Node node = make_of(NodeKind::kTest, line, std::move(name), std::move(input));
    const Token& token = current();
    const bool is_word = token.kind == TokenKind::kName && token.text != "else" && token.text != "or" && token.text != "and";
    if (is_operator("(")) {
      arguments(node);
    } else if (is_word && token.text == "is") {
      fail("a test follows a test", {.remedy = "put parentheses around the first"});
    } else if (is_word || token.kind == TokenKind::kString || token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat || is_operator("[") ||
               is_operator("{")) {
      Node argument = primary();
      node.children.push_back(postfix(std::move(argument)));
      node.names.emplace_back();
    }
    node = finished(std::move(node));
    return is_negated ? make_of(NodeKind::kNot, line, "", std::move(node)) : node;
  }

  std::vector<Token> tokens_;
  const std::string& name_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;   // around the statement, in the same body
  int macros_ = 0;  // around it
  bool has_generation_blocks_ = false;
};

}  // namespace deltatune::jinja
