# Perl DBD::Pg at its defaults: prepare() makes a named statement at its second execution (pg_switch_prepared 2) and
# DEALLOCATEs it at the end. Where to connect comes from PG* variables. Prints a line for each check, as tests/drivers/run
# wants it. The load is in processes of their own, for DBI waits where it stands.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg ':pg_types';
use Time::HiRes qw(time sleep);

$| = 1;
binmode STDOUT, ':utf8';
my $TEXT = "grüße ☃ 😀 'quoted' \\ \t\n";
my $LARGE = 8 << 20;

sub connection {
    my %more = @_;
    return DBI->connect('dbi:Pg:', $ENV{PGUSER}, $more{password} // $ENV{PGPASSWORD}, {RaiseError => 1, PrintError => 0, AutoCommit => $more{AutoCommit} // 1});
}

sub equal {
    my ($got, $expected) = @_;
    my $same = defined $got ? defined $expected && $got eq $expected : !defined $expected;
    die sprintf("got %.200s, not %.200s, line %d\n", $got // 'undef', $expected // 'undef', (caller)[2]) unless $same;
}

sub expect {
    my ($sqlstate, $action) = @_;
    my $line = (caller)[2];
    die "$sqlstate expected, line $line\n" if eval { $action->(); 1 };
    my $got = $DBI::state // '';
    die "$sqlstate expected, got $got, line $line: $@\n" if $got ne $sqlstate;
}

sub value { my ($one, $sql, @values) = @_; return ($one->selectrow_array($sql, undef, @values))[0]; }

sub check {
    my ($name, $function) = @_;
    my $words = eval { $function->() };
    my $failure = $@;
    if ($failure eq '') { $words //= ''; print "ok $name $words\n"; return; }
    $failure =~ s/\s+/ /g;
    print "fail $name $failure\n";
}

print "version DBD::Pg $DBD::Pg::VERSION (Perl ", sprintf('%vd', $^V), ")\n";

check connect => sub {
    my $one = connection();
    equal(join(' ', $one->selectrow_array('select current_user, current_database()')), "$ENV{PGUSER} $ENV{PGDATABASE}");
    equal($one->ping, 1);
    equal(scalar(@{$one->table_info(undef, undef, 'items')->fetchall_arrayref}), 1);
    $one->disconnect;
    eval { connection(password => 'wrong') } and die "a wrong password was accepted\n";
    $@ =~ /authentication failed/ or die $@;
    return;
};

check types => sub {
    my $one = connection();
    my $bytes = "\x00\x01\x7f\xff";
    for my $round (1 .. 3) {
        my $statement = $one->prepare_cached('select ?::int4, ?::int8, ?::text, ?::float8, ?::bool, ?::timestamp, ?::timestamptz, ?::bytea,'
            . ' ?::numeric, ?::text, ?::int[], ?::text[], ?::jsonb');
        my @values = (-42, '9007199254740993', $TEXT, '-1e+300', 't', '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56.789012+00', $bytes,
            '12345678901234567890.123456789', undef, [1, -2, 3], ['a', 'b c', undef], '{"a": [1, 2.5, null]}');
        $statement->bind_param(8, undef, {pg_type => PG_BYTEA});
        $statement->execute(@values);
        my @row = $statement->fetchrow_array;
        $statement->finish;
        $values[4] = 1;
        equal($row[$_], $values[$_]) for 0 .. 9, 12;
        equal("@{$row[10]}", '1 -2 3');
        equal(join('|', map { $_ // 'null' } @{$row[11]}), 'a|b c|null');
    }
    return;
};

check prepared => sub {
    my ($one, $other) = (connection(), connection());
    my $mine = $one->prepare('select ?::int + 1'); # dbdpg_pPID_1 at both
    my $theirs = $other->prepare("select 'other ' || ?::text");
    for my $number (0 .. 39) {
        $other->begin_work if $number % 3 == 0; # takes the server that $one had
        $mine->execute($number);
        equal($mine->fetchrow_array, $number + 1);
        $theirs->execute($number);
        equal($theirs->fetchrow_array, "other $number");
        $other->rollback if $number % 3 == 1;
    }
    $other->rollback;
    my @many = map { $one->prepare("select ?::int + $_") } 0 .. 249;
    for my $round (1 .. 3) {
        for my $number (0 .. 249) {
            $many[$number]->execute($round);
            equal($many[$number]->fetchrow_array, $number + $round);
        }
    }
    undef @many; # DEALLOCATE of each
    for my $number (1 .. 100) {
        my $statement = $one->prepare('select ?::int * 2');
        for my $round (1 .. 3) {
            $statement->execute($number);
            equal($statement->fetchrow_array, $number * 2);
        }
    }
    $mine->execute(7);
    equal($mine->fetchrow_array, 8);
    my $named = $one->prepare('select ?::int + 5', {pg_prepare_now => 1, pg_prepare_name => 'five'});
    for my $round (1 .. 3) {
        $named->execute($round);
        equal($named->fetchrow_array, $round + 5);
    }
    return;
};

check transactions => sub {
    my ($one, $other) = (connection(AutoCommit => 0), connection());
    my $count = sub { value($other, 'select count(*) from items') };
    $one->do("insert into items values (1, 'one')");
    equal($count->(), 0);
    $one->commit;
    equal($count->(), 1);
    $one->do('set transaction isolation level serializable');
    $one->do('insert into items values (?, ?)', undef, 2, 'two');
    $one->rollback;
    equal($count->(), 1);
    $one->do('insert into items values (?, ?)', undef, 3, 'three');
    $one->pg_savepoint('before');
    expect('23505', sub { $one->do('insert into items values (?, ?)', undef, 3, 'again') });
    $one->pg_rollback_to('before');
    $one->pg_release('before');
    $one->commit;
    equal($count->(), 2);
    $other->do('delete from items');
    $_->disconnect for $one, $other;
    return;
};

check errors => sub {
    my $one = connection();
    expect('42601', sub { $one->do('selec 1') });
    expect('42601', sub { value($one, 'selec ?', 1) });
    $one->do("insert into items values (1, 'one')");
    expect('23505', sub { $one->do("insert into items values (?, 'again')", undef, 1) });
    expect('23502', sub { $one->do('insert into items values (2, ?)', undef, undef) });
    $one->do('delete from items');
    my $divide = $one->prepare('select 7 / ?::int');
    for my $round (1 .. 10) {
        $one->begin_work;
        expect('22012', sub { $divide->execute(0) });
        expect('25P02', sub { $one->do('select 1') });
        equal($one->ping, 4); # in a failed transaction
        $one->rollback;
        $divide->execute(1);
        equal($divide->fetchrow_array, 7);
    }
    return;
};

check pipeline => sub { # many rows by execute_array, and several statements in one simple query
    my $one = connection();
    my $insert = $one->prepare('insert into items values (?, ?)');
    equal($insert->execute_array({}, [0 .. 499], [map { "name $_" } 0 .. 499]), 500);
    equal($one->do("delete from items; insert into items values (7, 'seven'); select 3"), 1);
    equal(value($one, 'select id from items'), 7);
    expect('22012', sub { $one->do('delete from items; select 1/0; select 3') });
    equal(value($one, 'select count(*) from items'), 1);
    $one->do('delete from items');
    return;
};

check cursor => sub { # DECLARE and FETCH: DBD::Pg has no call of its own for it
    my $one = connection(AutoCommit => 0);
    $one->do('declare pieces cursor for select n from generate_series(1, 1000) n');
    my $fetch = $one->prepare('fetch 100 from pieces');
    for my $piece (0 .. 9) {
        $fetch->execute;
        equal(join(' ', map { $_->[0] } @{$fetch->fetchall_arrayref}), join(' ', $piece * 100 + 1 .. $piece * 100 + 100));
    }
    $fetch->execute;
    equal(scalar(@{$fetch->fetchall_arrayref}), 0);
    $one->commit;
    expect('34000', sub { $one->do('fetch 1 from pieces') }); # it ended with its transaction
    $one->rollback;
    $one->disconnect;
    return;
};

check copy => sub {
    my $one = connection();
    my @rows = map { "$_\tname $_\n" } 0 .. 19999;
    $one->do('copy items (id, name) from stdin');
    $one->pg_putcopydata($_) for @rows;
    equal($one->pg_putcopyend, 1);
    $one->do('copy (select id, name from items order by id) to stdout');
    my ($row, $at) = ('', 0);
    while ($one->pg_getcopydata($row) >= 0) { equal($row, $rows[$at++]); }
    equal($at, 20000);
    $one->do('delete from items');
    $one->do('copy items (id, name) from stdin');
    $one->pg_putcopydata("1\tone\nx\tbad\n");
    expect('22P02', sub { $one->pg_putcopyend });
    equal(value($one, 'select count(*) from items'), 0);
    return;
};

check cancel => sub {
    my ($one, $other) = (connection(), connection());
    for my $round (1 .. 2) {
        my $sleep = $one->prepare('select pg_sleep(20)', {pg_async => PG_ASYNC});
        $sleep->execute;
        sleep 0.02 until value($other, "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'");
        equal($one->pg_cancel, 1);
        equal(value($one, 'select 7'), 7);
    }
    return;
};

check large => sub {
    my $one = connection();
    my $text = '0123456789abcdef' x ($LARGE / 16);
    value($one, 'select ?::text', $text) eq $text or die "text\n";
    my $bytes = join('', map { chr } 0 .. 255) x ($LARGE / 256);
    my $statement = $one->prepare('select ?::bytea');
    $statement->bind_param(1, $bytes, {pg_type => PG_BYTEA});
    $statement->execute;
    $statement->fetchrow_array eq $bytes or die "bytes\n";
    return;
};

sub work {
    my ($worker, $until) = @_;
    my $token = "w$worker-$$-" . int(rand(1e9));
    my $committed = 0;
    my $one = connection();
    my $insert = $one->prepare('insert into load values (?, ?) returning token, seq');
    my $series = $one->prepare('select ?::text || n from generate_series(1, 50) n');
    for (my $number = 1; $number == 1 || time < $until; ++$number) {
        equal(join(' ', $one->selectrow_array('select ?::text, ?::int', undef, $token, $number)), "$token $number");
        $one->begin_work;
        $insert->execute($token, $committed);
        equal(join(' ', $insert->fetchrow_array), "$token $committed");
        my $count = $one->prepare_cached('select count(*) from load where token = ?');
        equal($one->selectrow_array($count, undef, $token), $committed + 1);
        expect('22012', sub { value($one, 'select 1 / (?::int - ?::int)', $number, $number) }) if $number % 7 == 0;
        if ($number % 7 == 0 || $number % 5 == 0) {
            $one->rollback;
        } else {
            $one->commit;
            ++$committed;
        }
        $series->execute($token);
        equal(join(' ', map { $_->[0] } @{$series->fetchall_arrayref}), join(' ', map { "$token$_" } 1 .. 50));
    }
    equal(value($one, 'select count(*) from load where token = ?', $token), $committed);
    $one->disconnect;
    return $committed;
}

check load => sub {
    my $until = time + $ENV{SECONDS};
    my @children;
    for my $worker (1 .. $ENV{WORKERS}) {
        my $child = open(my $pipe, '-|') // die "fork: $!\n";
        if ($child == 0) {
            my $committed = eval { work($worker, $until) };
            print $@ eq '' ? $committed : $@;
            exit 0;
        }
        push @children, $pipe;
    }
    my $committed = 0;
    for my $pipe (@children) {
        my $words = join ' ', <$pipe>;
        close $pipe;
        $words =~ /^\d+$/ or die $words eq '' ? "a worker ended without a word\n" : $words;
        $committed += $words;
    }
    return $committed;
};
