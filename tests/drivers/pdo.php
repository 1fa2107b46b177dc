<?php
// PHP PDO (pdo_pgsql) at its defaults: prepare() makes a named statement at its first execution and DEALLOCATEs it at the
// end. Where to connect comes from PG* variables (password and user by PDO's arguments). Prints a line for each check, as
// tests/drivers/run wants it. The load is in processes of their own, for PDO waits where it stands.
declare(strict_types=1);
error_reporting(E_ALL);
set_error_handler(function (int $level, string $message): never { throw new ErrorException($message); });

const TEXT = "grüße ☃ 😀 'quoted' \\ \t\n";
const LARGE = 8 << 20;

function connect(?string $password = null): PDO
{
    return new PDO(sprintf('pgsql:host=%s;port=%s;dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE')),
        getenv('PGUSER'), $password ?? getenv('PGPASSWORD'));
}

function equal(mixed $got, mixed $expected): void
{
    if ($got !== $expected) {
        throw new Exception(substr('got ' . var_export($got, true), 0, 200) . substr(', not ' . var_export($expected, true), 0, 200));
    }
}

function expect(string $sqlstate, callable $action): void
{
    try {
        $action();
    } catch (PDOException $error) {
        if ($error->getCode() === $sqlstate) {
            return;
        }
        throw $error;
    }
    throw new Exception("$sqlstate expected");
}

function row(PDO $one, string $sql, array $values = []): array
{
    $statement = $one->prepare($sql);
    $statement->execute($values);
    return $statement->fetch(PDO::FETCH_NUM);
}

function check(string $name, callable $function): void
{
    try {
        echo rtrim("ok $name " . $function()), "\n";
    } catch (Throwable $error) {
        $lines = array_map(fn ($frame) => $frame['line'] ?? 0, array_slice($error->getTrace(), 0, 3));
        echo "fail $name line ", $error->getLine(), ' from ', implode(', ', $lines), ': ', preg_replace('/\s+/', ' ', $error->getMessage()), "\n";
    }
}

echo 'version PHP PDO ', phpversion('pdo_pgsql'), "\n";

check('connect', function () {
    $one = connect();
    equal(row($one, 'select current_user, current_database()'), [getenv('PGUSER'), getenv('PGDATABASE')]);
    equal($one->getAttribute(PDO::ATTR_DRIVER_NAME), 'pgsql');
    try {
        connect('wrong');
    } catch (PDOException $error) {
        equal(str_contains($error->getMessage(), 'authentication failed'), true);
        return '';
    }
    throw new Exception('a wrong password was accepted');
});

check('types', function () {
    $one = connect();
    $statement = $one->prepare('select ?::int4, ?::int8, ?::text, ?::float8, ?::bool, ?::timestamp, ?::timestamptz, ?::bytea, ?::numeric,'
        . ' ?::text, ?::int[], ?::text[], ?::jsonb');
    $bytes = "\x00\x01\x7f\xff";
    $values = [[-42, PDO::PARAM_INT], [9007199254740993, PDO::PARAM_INT], [TEXT, PDO::PARAM_STR], [-1e300, PDO::PARAM_STR],
        [true, PDO::PARAM_BOOL], ['2024-02-29 12:34:56.789012', PDO::PARAM_STR], ['2024-02-29 12:34:56.789012+00', PDO::PARAM_STR],
        [$bytes, PDO::PARAM_LOB], ['12345678901234567890.123456789', PDO::PARAM_STR], [null, PDO::PARAM_NULL], ['{1,-2,3}', PDO::PARAM_STR],
        ['{a,"b c",NULL}', PDO::PARAM_STR], ['{"a": [1, 2.5, null]}', PDO::PARAM_STR]];
    foreach ($values as $at => [$value, $type]) {
        $statement->bindValue($at + 1, $value, $type);
    }
    $statement->execute();
    $row = $statement->fetch(PDO::FETCH_NUM);
    $row[7] = stream_get_contents($row[7]);
    equal(array_slice($row, 0, 3), [-42, 9007199254740993, TEXT]);
    equal((float) $row[3], -1e300);
    equal(array_slice($row, 4), array_column(array_slice($values, 4), 0));
});

check('prepared', function () {
    [$one, $other] = [connect(), connect()];
    $mine = $one->prepare('select ?::int + 1'); // pdo_stmt_00000001 at both
    $theirs = $other->prepare("select 'other ' || ?::text");
    for ($number = 0; $number < 40; ++$number) {
        if ($number % 3 == 0) {
            $other->beginTransaction(); // takes the server that $one had
        }
        $mine->execute([$number]);
        equal($mine->fetchColumn(), $number + 1);
        $theirs->execute([$number]);
        equal($theirs->fetchColumn(), "other $number");
        if ($number % 3 == 1) {
            $other->rollBack();
        }
    }
    $other->rollBack();
    $many = [];
    for ($number = 0; $number < 250; ++$number) {
        $many[] = $one->prepare("select ?::int + $number");
        end($many)->execute([1]);
    }
    foreach ($many as $number => $statement) {
        $statement->execute([2]);
        equal($statement->fetchColumn(), $number + 2);
    }
    unset($statement, $many); // DEALLOCATE of each
    for ($number = 0; $number < 100; ++$number) {
        equal(row($one, 'select ?::int * 2', [$number]), [$number * 2]);
    }
    $mine->execute([7]);
    equal($mine->fetchColumn(), 8);
    $one->setAttribute(PDO::ATTR_EMULATE_PREPARES, true);
    equal(row($one, 'select ?::int + 1', [1]), [2]);
    $one->setAttribute(PDO::ATTR_EMULATE_PREPARES, false);
    // A statement that ends in a failed transaction: its DEALLOCATE is refused there.
    $one->beginTransaction();
    $lost = $one->prepare('select 1 / ?::int');
    expect('22012', fn () => $lost->execute([0]));
    unset($lost);
    $one->rollBack();
    equal(row($one, 'select ?::int', [3]), [3]);
});

check('transactions', function () {
    [$one, $other] = [connect(), connect()];
    $count = fn () => row($other, 'select count(*) from items')[0];
    $one->beginTransaction();
    $one->exec("insert into items values (1, 'one')");
    equal($count(), 0);
    equal($one->inTransaction(), true);
    $one->commit();
    equal($count(), 1);
    $one->beginTransaction();
    $one->exec('set transaction isolation level serializable');
    row($one, 'insert into items values (?, ?) returning id', [2, 'two']);
    $one->rollBack();
    equal($count(), 1);
    $one->beginTransaction();
    row($one, 'insert into items values (?, ?) returning id', [3, 'three']);
    $one->exec('savepoint before');
    expect('23505', fn () => row($one, 'insert into items values (?, ?) returning id', [3, 'again']));
    $one->exec('rollback to before');
    $one->commit();
    equal($count(), 2);
    $one->exec('delete from items');
});

check('errors', function () {
    $one = connect();
    expect('42601', fn () => $one->query('selec 1'));
    expect('42601', fn () => row($one, 'selec ?', [1]));
    $one->exec("insert into items values (1, 'one')");
    expect('23505', fn () => row($one, "insert into items values (?, 'again')", [1]));
    expect('23502', fn () => row($one, 'insert into items values (2, ?)', [null]));
    $one->exec('delete from items');
    $divide = $one->prepare('select 7 / ?::int');
    for ($round = 0; $round < 10; ++$round) {
        $one->beginTransaction();
        expect('22012', fn () => $divide->execute([0]));
        expect('25P02', fn () => $one->query('select 1'));
        $one->rollBack();
        $divide->execute([1]);
        equal($divide->fetchColumn(), 7);
    }
});

check('pipeline', function () { // several statements in one simple query
    $one = connect();
    $one->exec("insert into items values (1, 'one'); insert into items values (2, 'two'); update items set amount = 3");
    equal(row($one, 'select count(*) from items where amount = 3'), [2]);
    expect('22012', fn () => $one->exec('delete from items; select 1/0; select 3'));
    equal(row($one, 'select count(*) from items'), [2]);
    $one->exec('delete from items');
});

check('cursor', function () { // CURSOR_SCROLL: DECLARE and FETCH
    $one = connect();
    $one->beginTransaction();
    $statement = $one->prepare('select n from generate_series(1, ?::int) n', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $statement->execute([1000]);
    for ($n = 1; $n <= 1000; ++$n) {
        equal($statement->fetch(PDO::FETCH_NUM), [$n]);
    }
    equal($statement->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_ABS, 500), [500]);
    unset($statement);
    $one->commit();
});

check('copy', function () {
    $one = connect();
    $rows = array_map(fn ($n) => "$n\tname $n\t\\N\n", range(0, 4999));
    $one->pgsqlCopyFromArray('items', $rows);
    equal($one->pgsqlCopyToArray('items'), $rows);
    $one->exec('delete from items');
    expect('22P02', fn () => $one->pgsqlCopyFromArray('items', ["1\tone\t1\n", "x\tbad\t1\n"]));
    equal(row($one, 'select count(*) from items'), [0]);
});

echo "n/a cancel\n";

check('large', function () {
    $one = connect();
    $text = str_repeat('0123456789abcdef', LARGE >> 4);
    equal(row($one, 'select ?::text', [$text])[0] === $text, true);
    $bytes = str_repeat(implode('', array_map('chr', range(0, 255))), LARGE >> 8);
    $statement = $one->prepare('select ?::bytea');
    $statement->bindValue(1, $bytes, PDO::PARAM_LOB);
    $statement->execute();
    equal(stream_get_contents($statement->fetchColumn()) === $bytes, true);
});

function work(int $worker, float $until): int
{
    $token = "w$worker-" . bin2hex(random_bytes(6));
    $committed = 0;
    $one = connect();
    $insert = $one->prepare('insert into load values (?, ?) returning token, seq');
    $count = $one->prepare('select count(*) from load where token = ?');
    for ($number = 1; $number === 1 || microtime(true) < $until; ++$number) {
        equal(row($one, 'select ?::text, ?::int', [$token, $number]), [$token, $number]); // prepared, run, DEALLOCATE
        $one->beginTransaction();
        $insert->execute([$token, $committed]);
        equal($insert->fetch(PDO::FETCH_NUM), [$token, $committed]);
        $count->execute([$token]);
        equal($count->fetchColumn(), $committed + 1);
        if ($number % 7 == 0) {
            expect('22012', fn () => row($one, 'select 1 / (?::int - ?::int)', [$number, $number]));
        }
        if ($number % 7 == 0 || $number % 5 == 0) {
            $one->rollBack();
        } else {
            $one->commit();
            ++$committed;
        }
        $series = $one->prepare('select ? || n from generate_series(1, 50) n');
        $series->execute([$token]);
        equal($series->fetchAll(PDO::FETCH_COLUMN), array_map(fn ($n) => $token . $n, range(1, 50)));
    }
    $count->execute([$token]);
    equal($count->fetchColumn(), $committed);
    return $committed;
}

check('load', function () {
    $until = microtime(true) + (float) getenv('SECONDS');
    $pipes = [];
    for ($worker = 0; $worker < (int) getenv('WORKERS'); ++$worker) {
        [$mine, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        if (pcntl_fork() === 0) {
            try {
                fwrite($theirs, (string) work($worker, $until));
            } catch (Throwable $error) {
                fwrite($theirs, 'line ' . $error->getLine() . ': ' . $error->getMessage());
            }
            exit(0);
        }
        fclose($theirs);
        $pipes[] = $mine;
    }
    $committed = 0;
    foreach ($pipes as $pipe) {
        $words = stream_get_contents($pipe);
        if (!ctype_digit($words)) {
            throw new Exception($words === '' ? 'a worker ended without a word' : $words);
        }
        $committed += (int) $words;
    }
    return $committed;
});
