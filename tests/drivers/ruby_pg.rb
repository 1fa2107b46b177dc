# ruby-pg at its defaults: exec, exec_params, prepare; where to connect comes from PG* variables.
# Prints a line for each check, as tests/drivers/run wants it.
require "json"
require "pg"
require "securerandom"
$stdout.sync = true

TEXT = "grüße ☃ 😀 'quoted' \\ \t\n"
LARGE = 8 << 20

def equal(got, expected)
  raise "got #{got.inspect[0, 200]}, not #{expected.inspect[0, 200]}" unless got == expected
end

def expect(kind)
  yield
rescue kind
  nil
else
  raise "#{kind} expected"
end

def connected(count = 1)
  connections = Array.new(count) { PG.connect }
  yield(*connections)
ensure
  connections&.each(&:close)
end

def check(name)
  puts "ok #{name} #{yield}".strip
rescue StandardError => error
  line = error.backtrace.find { |at| at !~ /equal|expect'/ }.to_s[/:(\d+)/, 1]
  puts "fail #{name} line #{line}: #{error.class}: #{error.message.gsub(/\s+/, ' ')}"
end

def single(connection, sql, values = [])
  connection.exec_params(sql, values).getvalue(0, 0)
end

puts "version ruby-pg #{PG::VERSION} (Ruby #{RUBY_VERSION})"

check("connect") do
  connected do |one|
    equal(one.exec("select current_user, current_database()").values, [[ENV["PGUSER"], ENV["PGDATABASE"]]])
    equal(one.parameter_status("client_encoding"), "UTF8")
    one.reset
    equal(one.exec("select 1").values, [["1"]])
  end
  begin
    PG.connect(password: "wrong")
    raise "a wrong password was accepted"
  rescue PG::ConnectionBad => error
    raise unless error.message.include?("authentication failed")
  end
  nil
end

check("types") do
  connected do |one|
    one.type_map_for_results = PG::BasicTypeMapForResults.new(one)
    one.type_map_for_queries = PG::BasicTypeMapForQueries.new(one)
    stamp = Time.utc(2024, 2, 29, 12, 34, Rational(56_789_012, 1_000_000))
    row = one.exec_params("select $1::int4, $2::int8, $3::text, $4::float8, $5::bool, $6::timestamptz, $7::bytea, $8::numeric, $9::text," \
                          " $10::int[], $11::text[], $12::jsonb, '2024-02-29 12:34:56.789012'::timestamp",
                          [-42, 9_007_199_254_740_993, TEXT, -1e300, true, stamp, PG::BasicTypeMapForQueries::BinaryData.new("\x00\x01\x7f\xff".b),
                           BigDecimal("12345678901234567890.123456789"), nil, [1, -2, 3], ["a", "b c", "\""],
                           { "a" => [1, 2.5, nil] }]).values[0]
    equal(row[0, 5], [-42, 9_007_199_254_740_993, TEXT, -1e300, true])
    equal(row[5].getutc, stamp)
    equal(row[6], "\x00\x01\x7f\xff".b)
    equal(row[7, 2], [BigDecimal("12345678901234567890.123456789"), nil])
    equal(row[9, 2], [[1, -2, 3], ["a", "b c", "\""]])
    equal(row[11], { "a" => [1, 2.5, nil] })
    equal(row[12].nsec, 789_012_000)
  end
  nil
end

check("prepared") do
  connected(2) do |one, other|
    one.prepare("plus", "select $1::int + 1")
    other.prepare("plus", "select 'other ' || $1::text") # same name, another text
    40.times do |number|
      other.exec("begin") if number % 3 == 0 # takes the server that `one` had
      equal(one.exec_prepared("plus", [number]).getvalue(0, 0), (number + 1).to_s)
      equal(other.exec_prepared("plus", [number]).getvalue(0, 0), "other #{number}")
      other.exec("rollback") if number % 3 == 1
    end
    other.exec("rollback")
    equal(one.describe_prepared("plus").paramtype(0), 23)
    250.times { |number| one.prepare("s#{number}", "select #{number} + $1::int") }
    250.times { |number| equal(one.exec_prepared("s#{number}", [1]).getvalue(0, 0), (number + 1).to_s) }
    expect(PG::DuplicatePstatement) { one.prepare("plus", "select 1") }
    expect(PG::InvalidSqlStatementName) { one.exec_prepared("unknown") }
    one.exec("deallocate plus")
    expect(PG::InvalidSqlStatementName) { one.exec_prepared("plus", [1]) }
    one.prepare("plus", "select $1::int + 100")
    equal(one.exec_prepared("plus", [1]).getvalue(0, 0), "101")
    equal(other.exec_prepared("plus", [1]).getvalue(0, 0), "other 1")
  end
  nil
end

check("transactions") do
  connected(2) do |one, other|
    count = -> { single(other, "select count(*) from items").to_i }
    one.transaction do
      one.exec("insert into items values (1, 'one')")
      equal(count.call, 0)
    end
    equal(count.call, 1)
    expect(KeyError) do
      one.transaction do
        one.exec("insert into items values (2, 'two')")
        raise KeyError
      end
    end
    equal(count.call, 1)
    one.transaction do
      one.exec("set transaction isolation level serializable")
      one.exec_params("insert into items values ($1, $2)", [3, "three"])
      one.exec("savepoint before")
      expect(PG::UniqueViolation) { one.exec_params("insert into items values ($1, $2)", [3, "again"]) }
      one.exec("rollback to before")
    end
    equal(count.call, 2)
    one.exec("delete from items")
  end
  nil
end

check("errors") do
  connected do |one|
    expect(PG::SyntaxError) { one.exec("selec 1") }
    expect(PG::SyntaxError) { one.exec_params("selec $1", [1]) }
    one.exec("insert into items values (1, 'one')")
    expect(PG::UniqueViolation) { one.exec_params("insert into items values ($1, 'again')", [1]) }
    expect(PG::NotNullViolation) { one.exec_params("insert into items values (2, $1)", [nil]) }
    one.exec("delete from items")
    10.times do
      one.exec("begin")
      expect(PG::DivisionByZero) { one.exec_params("select 1 / $1::int", [0]) }
      expect(PG::InFailedSqlTransaction) { one.exec("select 1") }
      equal(one.transaction_status, PG::PQTRANS_INERROR)
      one.exec("rollback")
      equal(single(one, "select 7 / $1::int", [1]), "7")
    end
  end
  nil
end

check("pipeline") do
  connected do |one|
    10.times do
      one.enter_pipeline_mode
      50.times { |number| one.send_query_params("select $1::int * 2", [number]) }
      one.pipeline_sync
      one.send_query_params("select 1 / $1::int", [0])
      one.send_query_params("select $1::int", [2])
      one.pipeline_sync
      50.times do |number|
        equal(one.get_result.check.getvalue(0, 0), (number * 2).to_s)
        equal(one.get_result, nil)
      end
      equal(one.get_result.result_status, PG::PGRES_PIPELINE_SYNC)
      expect(PG::DivisionByZero) { one.get_result.check }
      equal(one.get_result, nil)
      equal(one.get_result.result_status, PG::PGRES_PIPELINE_ABORTED)
      equal(one.get_result, nil)
      equal(one.get_result.result_status, PG::PGRES_PIPELINE_SYNC)
      one.exit_pipeline_mode
      equal(single(one, "select 7"), "7")
    end
    one.send_query("select 1; select 2; select 1/0; select 3")
    equal(one.get_result.getvalue(0, 0), "1")
    equal(one.get_result.getvalue(0, 0), "2")
    expect(PG::DivisionByZero) { one.get_result.check }
    equal(one.get_result, nil)
  end
  nil
end

check("cursor") do # single rows, and DECLARE
  connected do |one|
    one.send_query("select n from generate_series(1, 1000) n")
    one.set_single_row_mode
    numbers = []
    one.get_result.stream_each_row { |row| numbers << row[0].to_i }
    equal(numbers, (1..1000).to_a)
    equal(one.get_result, nil)
    one.transaction do
      one.exec("declare pieces cursor for select n from generate_series(1, 1000) n")
      numbers = []
      while (rows = one.exec("fetch 100 from pieces")).ntuples.positive?
        numbers += rows.column_values(0).map(&:to_i)
      end
      equal(numbers, (1..1000).to_a)
    end
  end
  nil
end

check("copy") do
  connected do |one|
    encoder = PG::TextEncoder::CopyRow.new
    rows = Array.new(5000) { |number| [number.to_s, "name #{number} #{TEXT}"] }
    one.copy_data("copy items (id, name) from stdin", encoder) { rows.each { |row| one.put_copy_data(row) } }
    got = []
    one.copy_data("copy (select id, name from items order by id) to stdout", PG::TextDecoder::CopyRow.new) do
      while (row = one.get_copy_data)
        got << row
      end
    end
    equal(got, rows)
    one.exec("delete from items")
    expect(PG::InvalidTextRepresentation) do
      one.copy_data("copy items (id, name) from stdin") { one.put_copy_data("1\tone\nx\tbad\n") }
    end
    expect(KeyError) do
      one.copy_data("copy items (id, name) from stdin") do
        one.put_copy_data("1\tone\n")
        raise KeyError, "the source fails"
      end
    end
    equal(single(one, "select count(*) from items"), "0")
  end
  nil
end

check("cancel") do
  connected(2) do |one, other|
    sleeping = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'"
    thread = Thread.new do
      sleep(0.02) while single(other, sleeping) == "0"
      one.cancel
    end
    expect(PG::QueryCanceled) { one.exec("select pg_sleep(20)") }
    equal(thread.value, nil)
    equal(single(one, "select 7"), "7")
  end
  nil
end

check("large") do
  connected do |one|
    text = "0123456789abcdef" * (LARGE / 16)
    raise "text" unless single(one, "select $1::text", [text]) == text

    bytes = (0..255).to_a.pack("C*") * (LARGE / 256)
    got = one.exec_params("select $1::bytea", [{ value: bytes, format: 1 }], 1).getvalue(0, 0)
    raise "bytes" unless got == bytes
  end
  nil
end

check("load") do
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + ENV["SECONDS"].to_f
  threads = Array.new(ENV["WORKERS"].to_i) do |worker|
    Thread.new do
      Thread.current.report_on_exception = false
      token = "w#{worker}-#{SecureRandom.hex(6)}"
      committed = number = 0
      connected do |one|
        one.prepare("insert", "insert into load values ($1, $2) returning token, seq")
        one.prepare("series", "select $1 || n from generate_series(1, 50) n")
        while number.zero? || Process.clock_gettime(Process::CLOCK_MONOTONIC) < deadline
          number += 1
          equal(one.exec_params("select $1::text, $2::int", [token, number]).values, [[token, number.to_s]])
          one.exec("begin")
          equal(one.exec_prepared("insert", [token, committed]).values, [[token, committed.to_s]])
          equal(single(one, "select count(*) from load where token = $1", [token]), (committed + 1).to_s)
          expect(PG::DivisionByZero) { one.exec_params("select 1 / ($1::int - $2::int)", [number, number]) } if number % 7 == 0
          keep = number % 7 != 0 && number % 5 != 0
          one.exec(keep ? "commit" : "rollback")
          committed += 1 if keep
          equal(one.exec_prepared("series", [token]).column_values(0), (1..50).map { |n| "#{token}#{n}" })
        end
        equal(single(one, "select count(*) from load where token = $1", [token]), committed.to_s)
      end
      committed
    end
  end
  threads.sum(&:value)
end
